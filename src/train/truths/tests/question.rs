//! Truths made ready: what is left out, what cannot be asked, and that asking is what the truth's own function gives.

use super::*;
use crate::data::{Rows, TraceRow, read_jsonl, read_traces};
use crate::train::{Scorer, encode_usable_rows};

fn scorer_options(scorer: &Scorer) -> crate::text::EncodeOptions {
    crate::train::TrainConfig::default().encode_options(scorer.model())
}

fn ready(
    name: &str,
    data: TruthData,
    scored: &[EncodedRow],
    limit: Option<usize>,
    scorer: &Scorer,
) -> Result<Question, crate::train::TrainError> {
    let options = scorer_options(scorer);
    let truth = Truth::by_name(name).unwrap();
    Question::new(
        truth,
        data,
        scored,
        limit,
        &scorer.model().tokenizer,
        &options,
    )
    .map(|(question, _)| question)
}

fn marked() -> Rows {
    let text = "{\"text\":\"the cat was rude\",\"bad_spans\":[[12,16]]}\n{\"text\":\"the dog was kind\",\"bad_spans\":[]}\n";
    read_jsonl(text.as_bytes(), "marked.jsonl").unwrap()
}

fn traces() -> Vec<TraceRow> {
    let text = "{\"prompt\":\"q\",\"steps\":[\"the cat\",\"the dog\"],\"mistake_index\":1}\n";
    read_traces(text.as_bytes(), "traces.jsonl").unwrap()
}

#[test]
fn an_unknown_truth_lists_the_nearest_first() {
    let error = Truth::by_name("lexikon").unwrap_err();
    assert!(error.known.starts_with("lexicon ("), "{error}");
    for truth in TRUTHS {
        assert!(error.known.contains(truth.name));
        assert_eq!(Truth::by_name(truth.name).unwrap(), truth);
    }
}

#[test]
fn rows_that_were_trained_on_are_left_out_and_counted() {
    let run = trained("bradley_terry_sum", json!({}), 2, 40);
    let scorer = run.scorer().unwrap();
    let options = TruthOptions {
        bootstrap: Bootstrap {
            draws: 20,
            ..Bootstrap::default()
        },
        words: None,
    };
    let rows = run.held_out();
    let ask = |question: &Question| pollster::block_on(question.ask(&scorer, &options)).unwrap();

    let mut question = ready("intervention", TruthData::None, rows, Some(6), &scorer).unwrap();
    let plan = InterventionPlan::default();
    let own = pollster::block_on(intervention(&scorer, &rows[..6], &plan, &options)).unwrap();
    assert_eq!(ask(&question), own);
    // One of the six was trained on, by one of its answers.
    let answer = &rows[2].sides[1].encoded.answer_text;
    let trained_on = json!({"prompt": "p", "completion": answer}).to_string();
    let seen = Seen::of(&read_jsonl(trained_on.as_bytes(), "seen.jsonl").unwrap());
    question.leave_out(&seen);
    let result = ask(&question);
    assert_eq!(result.answers, own.answers - 2);
    let note = result.notes.last().unwrap();
    assert_eq!(note, "1 row left out: an answer of theirs was trained on");
    assert!(question.unanswerable().is_none());
    // What settings were chosen on counts as seen too, also with other white space around it.
    let mut tuned = ready("intervention", TruthData::None, rows, Some(6), &scorer).unwrap();
    let spaced = format!(" {}\n", rows[4].sides[0].encoded.answer_text);
    let chosen_on = json!({"prompt": "p", "completion": spaced}).to_string();
    let chosen_on = read_jsonl(chosen_on.as_bytes(), "tuned.jsonl").unwrap();
    tuned.leave_out(&seen.and_tuned_on(&chosen_on));
    let result = ask(&tuned);
    assert_eq!(result.answers, own.answers - 4);
    let note = result.notes.last().unwrap();
    assert_eq!(
        note,
        "2 rows left out: an answer of theirs was trained or tuned on"
    );

    // All of them: nothing is left to ask.
    let mut all = ready("spans", TruthData::Rows(marked()), rows, None, &scorer).unwrap();
    assert!(all.unanswerable().is_none());
    all.leave_out(&Seen::of(&marked()));
    let reason = all.unanswerable().unwrap();
    assert!(
        all.is_empty() && reason.contains("all of its 2 rows"),
        "{reason}"
    );
    let mut steps = ready("steps", TruthData::Traces(traces()), rows, None, &scorer).unwrap();
    assert!(steps.unanswerable().is_none());
    let trace = traces().pop().unwrap().row;
    steps.leave_out(&Seen::of(&Rows::Demonstrations(vec![trace])));
    assert!(steps.is_empty());
}

#[test]
fn what_no_map_could_answer_is_said_before_one_is_asked() {
    let run = trained("bradley_terry_sum", json!({}), 1, 40);
    let scorer = run.scorer().unwrap();
    let rows = run.held_out();
    let reason = |name, data| {
        let question = ready(name, data, rows, None, &scorer).unwrap();
        question.unanswerable().unwrap_or_default()
    };
    assert!(reason("edits", TruthData::None).contains("`rejected_spans`"));
    assert!(reason("spans", TruthData::None).contains("`bad_spans`"));
    assert!(reason("edits", TruthData::Rows(marked())).contains("`rejected_spans`"));
    assert_eq!(reason("spans", TruthData::Rows(marked())), "");
    let mut right = traces();
    right[0].first_wrong = None;
    assert!(reason("steps", TruthData::Traces(right)).contains("no trace has a wrong step"));
    assert_eq!(reason("lexicon", TruthData::Lexicon(Vec::new())), "");

    // Data of another kind than the truth reads.
    let error = ready("lexicon", TruthData::Rows(marked()), rows, None, &scorer).unwrap_err();
    assert!(error.to_string().contains("VADER"), "{error}");
    // A limit counts rows, before any is left out.
    let options = scorer_options(&scorer);
    let (first, _) =
        encode_usable_rows(&marked().first(1), &scorer.model().tokenizer, &options).unwrap();
    let one = ready("spans", TruthData::Rows(marked()), rows, Some(1), &scorer).unwrap();
    assert_eq!(first.len(), 1);
    let result = pollster::block_on(one.ask(&scorer, &TruthOptions::default())).unwrap();
    assert_eq!(result.answers, 1);
}
