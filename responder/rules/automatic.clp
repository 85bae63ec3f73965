; Mail that no person wrote. Salience 800.

(defrule automatic-absence
  (declare (salience 820))
  (not (decision))
  ?c <- (circumstance (name absence))
  =>
  (decide pause automatic-absence 0.99
    "It is an automatic answer of somebody who is away." ?c))

(defrule automatic-out-of-office
  (declare (salience 810))
  (not (decision))
  ?b <- (belief (intent out_of_office) (certainty ?c&:(>= ?c 0.6)))
  =>
  (decide pause automatic-out-of-office ?c
    (str-cat "They are away (" (as-text ?c) ").") ?b))

(defrule automatic-bounce
  (declare (salience 800))
  (not (decision))
  ?b <- (belief (intent bounce) (certainty ?c&:(>= ?c 0.7)))
  =>
  (decide stop automatic-bounce ?c
    (str-cat "It says that the mail could not be delivered (" (as-text ?c) ").") ?b))
