//! The engine as the page drives it, request by request, on the processor.

use super::*;
use crate::device::DeviceChoice;
use crate::reward::Side;
use crate::train::{FinishReason, Metrics, export_model};

fn ask_with(
    session: &mut Session,
    request: Request,
    buffers: Vec<Vec<u8>>,
) -> (Reply, Vec<Vec<u8>>) {
    pollster::block_on(session.handle(request, buffers))
}

fn ask(session: &mut Session, request: Request) -> Reply {
    match ask_with(session, request, Vec::new()).0 {
        Reply::Error { message } => panic!("{message}"),
        reply => reply,
    }
}

fn refused(session: &mut Session, request: Request, buffers: Vec<Vec<u8>>) -> String {
    match ask_with(session, request, buffers).0 {
        Reply::Error { message } => message,
        reply => panic!("no error: {reply:?}"),
    }
}

/// A session with the built-in world, and a small configuration.
fn world(demonstrations: bool) -> (Session, TrainConfig) {
    let mut session = Session::default();
    ask(
        &mut session,
        Request::OpenDevice {
            choice: DeviceChoice::Cpu,
        },
    );
    let Reply::Catalogue { config, methods } = ask(&mut session, Request::Describe) else {
        panic!("no catalogue");
    };
    assert_eq!(methods.len(), METHODS.len());
    ask(
        &mut session,
        Request::UseWorld {
            seed: 3,
            rows: 60,
            demonstrations,
        },
    );
    let config = TrainConfig {
        steps: 8,
        batch_size: 4,
        eval_steps: 4,
        ..config
    };
    (session, config)
}

fn configure(session: &mut Session, config: &TrainConfig) -> Reply {
    let config = config.clone();
    ask(session, Request::Configure { config })
}

/// The steps among events, their number and their metrics.
fn steps_of(events: &[Event]) -> Vec<(usize, Metrics)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Step { step, metrics, .. } => Some((*step, metrics.clone())),
            _ => None,
        })
        .collect()
}

/// The steps of a `Train` that goes well, all its events, and whether the run has ended.
fn train(session: &mut Session, steps: usize) -> (Vec<(usize, Metrics)>, Vec<Event>, bool) {
    let Reply::Events {
        events,
        finished,
        error: None,
    } = ask(session, Request::Train { steps })
    else {
        panic!("no events, or not all went well");
    };
    (steps_of(&events), events, finished)
}

/// A checkpoint of the run as it is.
fn save(session: &mut Session) -> Vec<u8> {
    let (reply, mut buffers) = ask_with(session, Request::Save, Vec::new());
    assert!(matches!(reply, Reply::Saved { .. }), "{reply:?}");
    buffers.remove(0)
}

/// What a run's description warns of.
fn run_warnings(session: &Session) -> Vec<String> {
    session.run.as_ref().unwrap().info().warnings.clone()
}

/// Restores, with other settings where some are given.
fn restore(session: &mut Session, bytes: &[u8], config: Option<TrainConfig>) -> Reply {
    let request = Request::Restore { config };
    match ask_with(session, request, vec![bytes.to_vec()]).0 {
        Reply::Error { message } => panic!("{message}"),
        reply => reply,
    }
}

#[test]
fn the_world_is_trained_step_by_step_and_the_watched_pair_comes_along() {
    let (mut session, config) = world(false);
    let Reply::Configured { run, watchable } = configure(&mut session, &config) else {
        panic!("not configured");
    };
    assert_eq!((run.total_steps, run.method.as_str()), (8, "ava_p"));
    assert_eq!(watchable.len(), run.held_out_rows);
    let Reply::Tokens { records } = ask(&mut session, Request::Watch { row: 1 }) else {
        panic!("no tokens");
    };
    assert_eq!(
        records.iter().map(|r| r.side).collect::<Vec<_>>(),
        [Side::Chosen, Side::Rejected]
    );
    assert!(
        records
            .iter()
            .flat_map(|r| &r.tokens)
            .all(|t| t.mean == 0.0)
    );

    let (taken, events, finished) = train(&mut session, 1);
    assert_eq!((taken.len(), taken[0].0, finished), (1, 1, false));
    let Some(Event::Tokens {
        step: 1,
        records: now,
    }) = events.last()
    else {
        panic!("no tokens after a step: {events:?}");
    };
    assert_eq!(now[0].id, records[0].id, "the same pair");
    assert!(now.iter().flat_map(|r| &r.tokens).any(|t| t.mean != 0.0));

    let (taken, events, finished) = train(&mut session, 100);
    assert_eq!((taken.len(), finished), (7, true), "no more than planned");
    let kinds = |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|e| wanted(e)).count();
    assert_eq!(kinds(&|e| matches!(e, Event::Evaluation { .. })), 2);
    assert_eq!(kinds(&|e| matches!(e, Event::Finished { .. })), 1);
    assert!(train(&mut session, 1).0.is_empty());

    let Reply::Tokens { records } = ask(
        &mut session,
        Request::Score {
            prompt: "describe the band : ".into(),
            answer: "we enjoyed the staff .".into(),
        },
    ) else {
        panic!("no tokens");
    };
    assert_eq!((records.len(), records[0].side), (1, Side::Answer));
    let far = refused(
        &mut session,
        Request::Score {
            prompt: "x".into(),
            answer: String::new(),
        },
        Vec::new(),
    );
    assert!(far.contains("empty"), "{far}");
    let Reply::Tokens { records } = ask(&mut session, Request::Watch { row: 10_000 }) else {
        panic!("no tokens");
    };
    assert!(records.is_empty(), "there is no such row");
}

#[test]
fn demonstrations_are_learned_from_also_where_the_rows_are_pairs() {
    for demonstrations in [true, false] {
        let (mut session, config) = world(demonstrations);
        let config = TrainConfig {
            method: "ava_d".into(),
            ..config
        };
        configure(&mut session, &config);
        let (taken, events, _) = train(&mut session, 2);
        assert!(taken[1].1["loss"].is_finite() && taken[1].1.contains_key("ava/td_logq"));
        let Some(Event::Tokens { records, .. }) = events.last() else {
            panic!("no tokens");
        };
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].side, Side::Answer);
    }
    // The other way round there is nothing to compare.
    let (mut session, config) = world(true);
    let said = refused(&mut session, Request::Configure { config }, Vec::new());
    assert!(said.contains("ava_d") && said.contains("pairs"), "{said}");
}

#[test]
fn a_saved_run_goes_on_in_another_engine_with_the_same_numbers() {
    let (mut session, config) = world(false);
    configure(&mut session, &config);
    train(&mut session, 3);
    let (reply, buffers) = ask_with(&mut session, Request::Save, Vec::new());
    let Reply::Saved { name, step: 3 } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(name, "avascope-ava_p-step-000003.safetensors");
    let straight = train(&mut session, 5).0;

    // Another engine, set up otherwise: the checkpoint brings its own settings.
    let (mut other, fresh) = world(false);
    let changed = TrainConfig {
        steps: 2,
        learning_rate: 1.0,
        ..fresh
    };
    configure(&mut other, &changed);
    let reply = restore(&mut other, &buffers[0], None);
    assert!(matches!(reply, Reply::Restored { step: 3, .. }));
    assert_eq!(train(&mut other, 5).0, straight);

    // One that is damaged, or of other rows, is refused, and the run that is there goes on.
    let mut damaged = buffers[0].clone();
    let at = damaged.len() - 9;
    damaged[at] ^= 1;
    let (mut third, config) = world(false);
    configure(&mut third, &config);
    train(&mut third, 1);
    let as_it_is = || Request::Restore { config: None };
    let said = refused(&mut third, as_it_is(), vec![damaged]);
    assert!(said.contains("SHA-256"), "{said}");
    refused(&mut third, as_it_is(), Vec::new());
    assert_eq!(train(&mut third, 1).0[0].0, 2);
    ask(
        &mut third,
        Request::UseWorld {
            seed: 4,
            rows: 60,
            demonstrations: false,
        },
    );
    let said = refused(&mut third, as_it_is(), buffers);
    assert!(said.contains("data fingerprint"), "{said}");
}

#[test]
fn what_a_checkpoints_map_passed_holds_until_the_next_step() {
    use crate::eval::{Interval, Metric};
    use crate::reward::Trust;
    use crate::train::{Floor, TrustEntry, TrustFile, TruthFigure, TruthResult, checkpoint_digest};
    let (mut session, config) = world(false);
    configure(&mut session, &config);
    train(&mut session, 2);
    let bytes = save(&mut session);
    // A result by a single figure, better or worse than its floor.
    let file = |value: f64, of: &[u8]| {
        let interval = Interval {
            low: value - 0.05,
            high: value + 0.05,
            level: 0.95,
        };
        let metric = Metric::of(value).with_interval(Some(interval));
        let floors = vec![Floor::new("chance", Metric::of(0.5))];
        let figure = TruthFigure::deciding("token AUC", metric, floors);
        let mut file = TrustFile::default();
        file.add(TrustEntry {
            checkpoint: checkpoint_digest(of).unwrap(),
            credit: "own".into(),
            data: "labels.jsonl".into(),
            result: TruthResult::new("spans", vec![figure], 30, 60, Vec::new()),
        });
        file.to_json().unwrap()
    };
    let opened = |session: &mut Session, trust: Vec<u8>| {
        let request = Request::Restore { config: None };
        let (reply, _) = ask_with(session, request, vec![bytes.clone(), trust]);
        let Reply::Restored { run, .. } = reply else {
            panic!("{reply:?}");
        };
        run.warnings
    };
    let trust = |session: &mut Session| {
        let Reply::Tokens { records } = ask(session, Request::Watch { row: 0 }) else {
            panic!("no tokens");
        };
        let own = Request::Score {
            prompt: String::new(),
            answer: "the the".into(),
        };
        if let Reply::Tokens { records: own } = ask(session, own) {
            assert_eq!(own[0].provenance.trust, records[0].provenance.trust);
        }
        (
            records[0].provenance.trust,
            records[0].provenance.checked.len(),
        )
    };
    let before = run_warnings(&session);
    assert_eq!(opened(&mut session, file(0.9, &bytes)), before);
    assert_eq!(trust(&mut session), (Trust::Checked, 1));
    // The next step makes another map.
    train(&mut session, 1);
    assert_eq!(trust(&mut session), (Trust::Exploratory, 0));
    let said = opened(&mut session, file(0.4, &bytes));
    assert!(said.last().unwrap().contains("did not pass"), "{said:?}");
    assert_eq!(trust(&mut session), (Trust::Exploratory, 0));
    // Results of another checkpoint say nothing of this one.
    train(&mut session, 1);
    let other = save(&mut session);
    let said = opened(&mut session, file(0.9, &other));
    assert!(said.last().unwrap().contains("say too little"), "{said:?}");
    assert_eq!(trust(&mut session), (Trust::Exploratory, 0));
    let said = refused(
        &mut session,
        Request::Restore { config: None },
        vec![bytes.clone(), b"{}".to_vec()],
    );
    assert!(said.contains("open the checkpoint without it"), "{said}");
}

#[test]
fn a_checkpoint_of_another_method_and_plan_brings_what_the_page_shows_of_it() {
    // Learned from demonstrations, with a plan of its own.
    let (mut session, config) = world(true);
    let config = TrainConfig {
        method: "ava_d".into(),
        steps: 12,
        held_out: 0.2,
        ..config
    };
    let Reply::Configured { run, watchable } = configure(&mut session, &config) else {
        panic!("not configured");
    };
    train(&mut session, 3);
    let bytes = save(&mut session);
    let straight = train(&mut session, 9).0;
    let ended = save(&mut session);

    // The page has pairs, another method and fewer steps.
    let (mut other, fresh) = world(false);
    let fresh = TrainConfig { steps: 2, ..fresh };
    configure(&mut other, &fresh);
    train(&mut other, 2);
    let restored = restore(&mut other, &bytes, None);
    let Reply::Restored { data, .. } = &restored else {
        panic!("{restored:?}");
    };
    assert_eq!((data.pairs, data.rows), (false, 60));
    assert_eq!(
        restored,
        Reply::Restored {
            step: 3,
            finished: None,
            config,
            run,
            watchable,
            data: data.clone(),
        }
    );
    let Reply::Tokens { records } = ask(&mut other, Request::Watch { row: 0 }) else {
        panic!("no tokens");
    };
    assert_eq!((records.len(), records[0].side), (1, Side::Answer));
    assert_eq!(train(&mut other, 9).0, straight);

    // One that has ended says why.
    let reply = restore(&mut other, &ended, None);
    assert!(matches!(
        reply,
        Reply::Restored {
            step: 12,
            finished: Some(FinishReason::Completed),
            ..
        }
    ));

    // One that is refused changes neither the rows nor the run.
    let (mut third, fresh) = world(false);
    ask(
        &mut third,
        Request::UseWorld {
            seed: 4,
            rows: 60,
            demonstrations: false,
        },
    );
    configure(&mut third, &fresh);
    train(&mut third, 1);
    let said = refused(&mut third, Request::Restore { config: None }, vec![bytes]);
    assert!(said.contains("data fingerprint"), "{said}");
    assert_eq!(train(&mut third, 1).0[0].0, 2);
    let Reply::Configured { run, .. } = configure(&mut third, &fresh) else {
        panic!("not configured");
    };
    assert_eq!(run.method, "ava_p");
}

#[test]
fn a_loss_out_of_range_ends_the_run_and_a_lower_rate_goes_on_from_a_checkpoint() {
    let (mut session, config) = world(false);
    let config = TrainConfig {
        steps: 12,
        eval_steps: 1,
        eval_rows: 1,
        ..config
    };
    configure(&mut session, &config);
    train(&mut session, 2);
    let good = save(&mut session);
    let wild = TrainConfig {
        learning_rate: 1e30,
        ..config.clone()
    };
    let Reply::Restored { run, .. } = restore(&mut session, &good, Some(wild)) else {
        panic!("not restored");
    };
    assert!(
        run.warnings.iter().any(|w| w.contains("learning_rate")),
        "{:?}",
        run.warnings
    );

    // The steps before the break were taken, and are told beside it; the break is an event, too.
    let Reply::Events {
        events,
        finished: false,
        error: Some(message),
    } = ask(&mut session, Request::Train { steps: 10 })
    else {
        panic!("the run went well");
    };
    let taken = steps_of(&events);
    let numbers: Vec<usize> = taken.iter().map(|(step, _)| *step).collect();
    let run = session.run.as_ref().expect("a run");
    assert_eq!(numbers, (3..=run.steps_taken()).collect::<Vec<_>>());
    assert_eq!(numbers.first(), Some(&3), "{events:?}");
    assert!(taken.iter().all(|(_, metrics)| metrics["loss"].is_finite()));
    let Some(Event::Failed {
        step,
        term,
        message: told,
        ..
    }) = events.last()
    else {
        panic!("no failure among {events:?}");
    };
    assert!(*step > 3 || term == "token reward", "{step} {term}");
    assert_eq!(*told, message);
    assert!(message.contains("learning"), "{message}");

    // Nothing of such a run is shown or saved.
    for request in [
        Request::Train { steps: 1 },
        Request::Stop,
        Request::Save,
        Request::Watch { row: 0 },
        Request::Score {
            prompt: "describe the band : ".into(),
            answer: "we enjoyed the staff .".into(),
        },
    ] {
        assert_eq!(refused(&mut session, request, Vec::new()), message);
    }

    // What fixes rows and tensors stays; then the run is as broken as before.
    let other_rows = TrainConfig {
        batch_size: 5,
        ..config.clone()
    };
    let request = Request::Restore {
        config: Some(other_rows),
    };
    let said = refused(&mut session, request, vec![good.clone()]);
    assert!(said.contains("batch_size"), "{said}");
    refused(&mut session, Request::Save, Vec::new());

    let mild = TrainConfig {
        learning_rate: 1e-4,
        head_learning_rate: Some(1e-3),
        ..config
    };
    let restored = restore(&mut session, &good, Some(mild.clone()));
    let Reply::Restored {
        step: 2,
        finished: None,
        config: now,
        ..
    } = &restored
    else {
        panic!("{restored:?}");
    };
    assert_eq!(now, &mild);
    let (taken, _, finished) = train(&mut session, 10);
    assert_eq!((taken.len(), finished), (10, true));
    assert!(
        taken.iter().all(|(_, metrics)| {
            metrics["loss"].is_finite() && metrics["learning_rate"] <= 1e-4
        })
    );
}

#[test]
fn a_person_who_stops_a_run_is_told_so_by_the_engine() {
    let (mut session, config) = world(false);
    configure(&mut session, &config);
    train(&mut session, 1);
    let stop = |session: &mut Session| {
        let Reply::Events {
            events,
            finished: true,
            error: None,
        } = ask(session, Request::Stop)
        else {
            panic!("no end");
        };
        events
    };
    let events = stop(&mut session);
    assert!(
        matches!(
            events.as_slice(),
            [
                Event::Evaluation { step: 1, .. },
                Event::Finished {
                    step: 1,
                    reason: FinishReason::Stopped
                }
            ]
        ),
        "{events:?}"
    );
    // A checkpoint of it can be gone on from.
    let bytes = save(&mut session);
    let reply = restore(&mut session, &bytes, None);
    assert!(matches!(reply, Reply::Restored { finished: None, .. }));
    assert!(train(&mut session, 100).2);
    // It has ended by itself: there is nothing to stop.
    assert!(stop(&mut session).is_empty());
}

#[test]
fn what_a_request_needs_first_is_said_and_nothing_is_lost() {
    let mut session = Session::default();
    let world = || Request::UseWorld {
        seed: 0,
        rows: 30,
        demonstrations: false,
    };
    for (request, words) in [
        (world(), "no device"),
        (Request::Train { steps: 1 }, "no run"),
        (Request::Stop, "no run"),
        (Request::Watch { row: 0 }, "no run"),
        (Request::Save, "no run"),
        (Request::Restore { config: None }, "no checkpoint came"),
        (
            Request::Configure {
                config: TrainConfig::default(),
            },
            "no device",
        ),
    ] {
        let said = refused(&mut session, request, Vec::new());
        assert!(said.contains(words), "{said}");
    }
    ask(
        &mut session,
        Request::OpenDevice {
            choice: DeviceChoice::Cpu,
        },
    );
    let said = refused(
        &mut session,
        Request::Configure {
            config: TrainConfig::default(),
        },
        Vec::new(),
    );
    assert!(said.contains("no model is open"), "{said}");
    ask(&mut session, world());
    configure(
        &mut session,
        &TrainConfig {
            batch_size: 4,
            ..TrainConfig::default()
        },
    );
    train(&mut session, 1);
    let open = |name: &str| Request::OpenData { name: name.into() };
    for (request, buffers, words) in [
        (open("a.jsonl"), Vec::new(), "no file came"),
        (
            open("mine.jsonl"),
            vec![b"{\"text\":\"a\"}\n{\"text\":".to_vec()],
            "mine.jsonl, line 2: not JSON",
        ),
        (
            Request::OpenModel {
                name: "m".into(),
                files: vec!["a.gguf".into()],
            },
            Vec::new(),
            "1 file names came with 0 files",
        ),
        (
            Request::OpenModel {
                name: "m".into(),
                files: vec!["a.gguf".into()],
            },
            vec![b"GGUF".to_vec()],
            "GGUF",
        ),
        (
            Request::Configure {
                config: TrainConfig {
                    steps: 0,
                    ..TrainConfig::default()
                },
            },
            Vec::new(),
            "`steps`",
        ),
    ] {
        let said = refused(&mut session, request, buffers);
        assert!(said.contains(words), "{said}");
    }
    // The run from before is still there.
    assert_eq!(train(&mut session, 1).0[0].0, 2);
}

/// Pairs as a person writes them, a line each.
fn own_rows() -> Vec<String> {
    (0..20)
        .map(|i| {
            format!(
                "{{\"prompt\":\"describe the band : \",\"chosen\":\"they ordered a cake .\",\"rejected\":\"we ate a gift {} .\"}}",
                if i % 2 == 0 { "and" } else { "but" }
            )
        })
        .collect()
}

#[test]
fn a_model_of_ones_own_opens_from_its_files_with_rows_of_ones_own() {
    let (mut session, config) = world(false);
    let model = world_model(&session.device().expect("open").device).expect("the built-in model");
    let (files, buffers): (Vec<String>, Vec<Vec<u8>>) = pollster::block_on(export_model(&model))
        .expect("files")
        .into_iter()
        .unzip();
    let (reply, _) = ask_with(
        &mut session,
        Request::OpenModel {
            name: "own".into(),
            files,
        },
        buffers,
    );
    let Reply::Model {
        name, parameters, ..
    } = reply
    else {
        panic!("{reply:?}");
    };
    assert_eq!(
        (name.as_str(), parameters),
        ("own", model.decoder.parameters())
    );
    let (reply, _) = ask_with(
        &mut session,
        Request::OpenData {
            name: "rows.jsonl".into(),
        },
        vec![own_rows().join("\n").into_bytes()],
    );
    assert!(
        matches!(
            &reply,
            Reply::Data(DataInfo {
                rows: 20,
                pairs: true,
                ..
            })
        ),
        "{reply:?}"
    );
    // A run needs setting up again: the old one was of other rows.
    refused(&mut session, Request::Train { steps: 1 }, Vec::new());
    let Reply::Configured { run, .. } = configure(&mut session, &config) else {
        panic!("not configured");
    };
    assert_eq!(run.model, "own");
    assert_eq!(train(&mut session, 2).0.len(), 2);
}

#[test]
fn rows_open_from_json_lines_and_from_a_json_array() {
    let (mut session, config) = world(false);
    let rows = own_rows();
    for (name, text) in [
        ("rows.jsonl", rows.join("\n")),
        ("rows.json", format!("\u{feff}[\n{}\n]\n", rows.join(",\n"))),
    ] {
        let request = Request::OpenData { name: name.into() };
        let (reply, _) = ask_with(&mut session, request, vec![text.into_bytes()]);
        assert!(
            matches!(
                &reply,
                Reply::Data(DataInfo {
                    rows: 20,
                    pairs: true,
                    ..
                })
            ),
            "{name}: {reply:?}"
        );
        configure(&mut session, &config);
        assert_eq!(train(&mut session, 1).0.len(), 1);
    }
    let request = Request::OpenData {
        name: "rows.json".into(),
    };
    let said = refused(
        &mut session,
        request,
        vec![format!("[{}, 7]", rows[0]).into()],
    );
    assert!(said.contains("rows.json, row 2"), "{said}");
}
