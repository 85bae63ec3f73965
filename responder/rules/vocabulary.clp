; What rules talk about, and how certainties are combined. Values come from mail; they are asserted
; slot by slot and are never read as rules.

(deftemplate evidence            ; one reason to believe in an intent
  (slot number (type INTEGER))
  (slot intent (type SYMBOL))
  (slot source (type SYMBOL))    ; model, lexicon or header
  (slot weight (type FLOAT))     ; -1 to 1
  (slot phrase (type STRING)))   ; the words that it rests on, if any

(deftemplate trust               ; how much a source counts; together they never make certain
  (slot source (type SYMBOL))
  (slot factor (type FLOAT)))

(deftemplate counted (slot number (type INTEGER)))

(deftemplate belief
  (slot intent (type SYMBOL))
  (slot certainty (type FLOAT)))

(deftemplate circumstance        ; what is known beside the words
  (slot name (type SYMBOL))      ; asked-to-stop, absence, abstain, legal-words, named-person
  (slot value (type STRING)))

(deftemplate setting
  (slot name (type SYMBOL))
  (slot value (type FLOAT)))

(deftemplate calls-for-answer (slot intent (type SYMBOL)))
(deftemplate contradiction (slot one (type SYMBOL)) (slot other (type SYMBOL)))
(deftemplate need (slot intent (type SYMBOL)) (slot certainty (type FLOAT)))

(deftemplate decision
  (slot kind (type SYMBOL))
  (slot rule (type SYMBOL))
  (slot certainty (type FLOAT))
  (slot suppress (type SYMBOL) (default no))
  (slot days (type INTEGER) (default 0)))

(deffacts knowledge
  (trust (source model) (factor 0.9))
  (trust (source lexicon) (factor 0.7))
  (trust (source header) (factor 1.0))
  (calls-for-answer (intent interested))
  (calls-for-answer (intent meeting_request))
  (calls-for-answer (intent question_pricing))
  (calls-for-answer (intent question_product))
  (calls-for-answer (intent question_technical))
  (calls-for-answer (intent question_legal))
  (calls-for-answer (intent objection_price))
  (contradiction (one interested) (other not_interested))
  (contradiction (one interested) (other objection_no_need))
  (contradiction (one meeting_request) (other not_interested))
  (contradiction (one meeting_request) (other objection_no_need))
  (contradiction (one question_pricing) (other not_interested))
  (contradiction (one question_product) (other not_interested)))

; MYCIN's certainty factors (Shortliffe and Buchanan 1975, in the form of van Melle 1980).
(deffunction combine (?a ?b)
  (if (and (>= ?a 0) (>= ?b 0)) then (+ ?a (* ?b (- 1 ?a)))
   else (if (and (< ?a 0) (< ?b 0)) then (+ ?a (* ?b (+ 1 ?a)))
   else (bind ?least (- 1 (min (abs ?a) (abs ?b))))
        (if (= ?least 0) then 0.0 else (/ (+ ?a ?b) ?least)))))

(deffunction as-text (?certainty) (format nil "%.2f" ?certainty))

(deffunction decide (?kind ?rule ?certainty ?says $?facts)
  (assert (decision (kind ?kind) (rule ?rule) (certainty (float ?certainty))))
  (explain ?rule ?says (expand$ ?facts)))
