; Not now, not this, not from you. Salience 500, after what they ask for.

(defrule objection-price
  (declare (salience 520))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?n <- (need (intent objection_price) (certainty ?c&:(>= ?c ?enough)))
  =>
  (decide answer objection-price ?c
    (str-cat "They find it too expensive (" (as-text ?c) ").") ?n))

(defrule objection-timing
  (declare (salience 515))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent objection_timing) (certainty ?c&:(>= ?c ?enough)))
  =>
  (assert (decision (kind pause) (rule objection-timing) (certainty ?c) (days 60)))
  (explain objection-timing
    (str-cat "It is not the time for it (" (as-text ?c) ").") ?b))

(defrule objection-not-wanted
  (declare (salience 510))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent ?intent&not_interested|objection_no_need|objection_competitor)
                (certainty ?c&:(>= ?c ?enough)))
  =>
  (decide stop objection-not-wanted ?c
    (str-cat "They say no (" ?intent ", " (as-text ?c) "); the sequence ends.") ?b))

(defrule objection-discussing
  (declare (salience 505))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent forward) (certainty ?c&:(>= ?c ?enough)))
  =>
  (assert (decision (kind pause) (rule objection-discussing) (certainty ?c) (days 7)))
  (explain objection-discussing
    (str-cat "They discuss it among themselves (" (as-text ?c) ").") ?b))

(defrule objection-none-just-thanks
  (declare (salience 500))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent acknowledgement) (certainty ?c&:(>= ?c ?enough)))
  =>
  (decide nothing objection-none-just-thanks ?c
    (str-cat "They say thank you and ask for nothing (" (as-text ?c) ").") ?b))
