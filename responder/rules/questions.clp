; What an answer has to speak about. Salience 650: needs are collected before deciding to answer, from
; a low certainty on, so that a rep who is asked finds a draft to begin with.

(defrule question-needs-answer
  (declare (salience 650))
  (not (decision))
  (calls-for-answer (intent ?intent))
  ?b <- (belief (intent ?intent) (certainty ?c&:(>= ?c 0.3)))
  (not (need (intent ?intent)))
  =>
  (assert (need (intent ?intent) (certainty ?c)))
  (explain question-needs-answer
    (str-cat "An answer has to speak about " ?intent " (" (as-text ?c) ").") ?b))

(defrule question-answer
  (declare (salience 610))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?n <- (need (intent ?intent&question_pricing|question_product|question_technical|question_legal)
              (certainty ?c&:(>= ?c ?enough)))
  =>
  (decide answer question-answer ?c
    (str-cat "They ask something (" ?intent ", " (as-text ?c) ").") ?n))
