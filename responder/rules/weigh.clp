; From evidence to belief. Salience 1000: everything is weighed before anything is decided.

; Of several phrases for one intent only the strongest counts: they are not independent.
(defrule weigh-only-the-strongest-phrase
  (declare (salience 1010))
  ?stronger <- (evidence (number ?n) (intent ?intent) (source lexicon) (weight ?w))
  ?weaker <- (evidence (number ?m&~?n) (intent ?intent) (source lexicon) (weight ?v))
  (test (or (> ?w ?v) (and (= ?w ?v) (< ?n ?m))))
  (not (counted (number ?m)))
  =>
  (assert (counted (number ?m)))
  (explain weigh-only-the-strongest-phrase
    (str-cat "Of several phrases that mean " ?intent " only the strongest counts.")
    ?stronger ?weaker))

(defrule weigh-first-evidence
  (declare (salience 1000))
  ?e <- (evidence (number ?n) (intent ?intent) (source ?source) (weight ?w))
  (trust (source ?source) (factor ?factor))
  (not (counted (number ?n)))
  (not (belief (intent ?intent)))
  =>
  (assert (counted (number ?n)) (belief (intent ?intent) (certainty (* ?w ?factor))))
  (explain weigh-first-evidence
    (str-cat "The " ?source " speaks for " ?intent " (" (as-text (* ?w ?factor)) ").") ?e))

(defrule weigh-more-evidence
  (declare (salience 1000))
  ?e <- (evidence (number ?n) (intent ?intent) (source ?source) (weight ?w))
  (trust (source ?source) (factor ?factor))
  (not (counted (number ?n)))
  ?b <- (belief (intent ?intent) (certainty ?before))
  =>
  (bind ?now (combine ?before (* ?w ?factor)))
  (assert (counted (number ?n)))
  (explain weigh-more-evidence
    (str-cat "The " ?source " speaks for " ?intent " as well: "
             (as-text ?before) " becomes " (as-text ?now) ".") ?e ?b)
  (modify ?b (certainty ?now)))
