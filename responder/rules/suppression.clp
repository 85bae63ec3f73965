; Who asks us to stop is never written to again, and the rep is always told. Salience 900.

(defrule suppress-request-found
  (declare (salience 910))
  (not (decision))
  ?c <- (circumstance (name asked-to-stop))
  =>
  (decide suppress suppress-request-found 0.99
    "The mail asks in plain words not to be written to again." ?c))

(defrule suppress-legal-threat
  (declare (salience 905))
  (not (decision))
  ?b <- (belief (intent complaint) (certainty ?c&:(>= ?c 0.3)))
  ?l <- (circumstance (name legal-words) (value ?words))
  =>
  (decide escalate suppress-legal-threat ?c
    (str-cat "It is a complaint (" (as-text ?c) ") that speaks of the law: \"" ?words "\".") ?b ?l))

(defrule suppress-unsubscribe
  (declare (salience 900))
  (not (decision))
  ?b <- (belief (intent unsubscribe) (certainty ?c&:(>= ?c 0.5)))
  =>
  (decide suppress suppress-unsubscribe ?c
    (str-cat "They want no more mail (" (as-text ?c) ").") ?b))

(defrule suppress-complaint
  (declare (salience 895))
  (not (decision))
  ?b <- (belief (intent complaint) (certainty ?c&:(>= ?c 0.6)))
  =>
  (decide suppress suppress-complaint ?c
    (str-cat "It is a complaint about being written to (" (as-text ?c) ").") ?b))

; Perhaps they want to stop: neither suppressed by mistake nor answered as if they were glad.
(defrule suppress-perhaps
  (declare (salience 890))
  (not (decision))
  ?b <- (belief (intent unsubscribe|complaint) (certainty ?c&:(>= ?c 0.3)))
  (not (circumstance (name absence)))
  =>
  (decide ask_rep suppress-perhaps ?c
    (str-cat "They may want us to stop (" (as-text ?c) "), which a person has to judge.") ?b))
