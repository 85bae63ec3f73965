; They are glad to hear from us. Salience 600.

(defrule interest-meeting
  (declare (salience 605))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?n <- (need (intent meeting_request) (certainty ?c&:(>= ?c ?enough)))
  =>
  (decide answer interest-meeting ?c
    (str-cat "They want to meet or talk (" (as-text ?c) ").") ?n))

(defrule interest-shown
  (declare (salience 600))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?n <- (need (intent interested) (certainty ?c&:(>= ?c ?enough)))
  =>
  (decide answer interest-shown ?c
    (str-cat "They are interested (" (as-text ?c) ").") ?n))
