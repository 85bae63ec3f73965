; When nobody can be sure, a person is asked: contradictions and doubts before any answer (salience
; 630 to 640), and last of all when no rule had anything to say (100).

(defrule undecided-contradiction
  (declare (salience 640))
  (not (decision))
  (setting (name act-from) (value ?enough))
  ?k <- (contradiction (one ?one) (other ?other))
  ?a <- (belief (intent ?one) (certainty ?c&:(>= ?c (* 0.8 ?enough))))
  ?b <- (belief (intent ?other) (certainty ?d&:(>= ?d (* 0.8 ?enough))))
  =>
  (decide ask_rep undecided-contradiction (max ?c ?d)
    (str-cat "It speaks for " ?one " (" (as-text ?c) ") and for " ?other " (" (as-text ?d)
             "), which contradict each other.") ?a ?b ?k))

(defrule undecided-reading
  (declare (salience 630))
  (not (decision))
  ?c <- (circumstance (name abstain) (value ?why))
  =>
  (decide ask_rep undecided-reading 0.0
    (str-cat "The reading is unsure: " ?why ".") ?c))

(defrule undecided-nothing-sure
  (declare (salience 100))
  (not (decision))
  ?s <- (setting (name act-from) (value ?enough))
  =>
  (decide ask_rep undecided-nothing-sure 0.0
    (str-cat "Nothing is surer than " (as-text ?enough) ", from which on rules may act.") ?s))
