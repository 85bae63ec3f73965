; Somebody else is the right person. Salience 700. Who is named is not written to by this rule: the
; rep decides, and consent comes first.

(defrule referral-left-company
  (declare (salience 710))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent left_company) (certainty ?c&:(>= ?c ?enough)))
  =>
  (decide stop referral-left-company ?c
    (str-cat "This person is not at the company any more (" (as-text ?c) ").") ?b))

(defrule referral-wrong-person
  (declare (salience 705))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent wrong_person) (certainty ?c&:(>= ?c ?enough)))
  ?p <- (circumstance (name named-person) (value ?who))
  =>
  (decide refer referral-wrong-person ?c
    (str-cat "They are the wrong person (" (as-text ?c) ") and name " ?who ".") ?b ?p))

(defrule referral-wrong-person-nobody-named
  (declare (salience 704))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent wrong_person) (certainty ?c&:(>= ?c ?enough)))
  (not (circumstance (name named-person)))
  =>
  (decide stop referral-wrong-person-nobody-named ?c
    (str-cat "They are the wrong person (" (as-text ?c) ") and name nobody else.") ?b))

; A name beside a question of their own is the rep's business; the question comes first.
(defrule referral-named
  (declare (salience 700))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?b <- (belief (intent referral) (certainty ?c&:(>= ?c ?enough)))
  (not (and (calls-for-answer (intent ?other))
            (belief (intent ?other) (certainty ?d&:(>= ?d ?enough)))))
  =>
  (decide refer referral-named ?c
    (str-cat "They name somebody else to talk to (" (as-text ?c) ").") ?b))
