//! The engine as the page drives it, request by request, on the processor.

use super::*;
use crate::device::DeviceChoice;
use crate::reward::Side;
use crate::train::{Metrics, export_model};

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

/// The steps among a reply's events, their number and their metrics.
fn train(session: &mut Session, steps: usize) -> (Vec<(usize, Metrics)>, Vec<Event>, bool) {
    let Reply::Events { events, finished } = ask(session, Request::Train { steps }) else {
        panic!("no events");
    };
    let taken = events
        .iter()
        .filter_map(|event| match event {
            Event::Step { step, metrics, .. } => Some((*step, metrics.clone())),
            _ => None,
        })
        .collect();
    (taken, events, finished)
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
    let (reply, _) = ask_with(&mut other, Request::Restore, buffers.clone());
    assert_eq!(reply, Reply::Restored { step: 3 });
    assert_eq!(train(&mut other, 5).0, straight);

    // One that is damaged, or of other rows, is refused, and the run that is there goes on.
    let mut damaged = buffers[0].clone();
    let at = damaged.len() - 9;
    damaged[at] ^= 1;
    let (mut third, config) = world(false);
    configure(&mut third, &config);
    train(&mut third, 1);
    let said = refused(&mut third, Request::Restore, vec![damaged]);
    assert!(said.contains("SHA-256"), "{said}");
    refused(&mut third, Request::Restore, Vec::new());
    assert_eq!(train(&mut third, 1).0[0].0, 2);
    ask(
        &mut third,
        Request::UseWorld {
            seed: 4,
            rows: 60,
            demonstrations: false,
        },
    );
    let said = refused(&mut third, Request::Restore, buffers);
    assert!(said.contains("data fingerprint"), "{said}");
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
        (Request::Evaluate, "no run"),
        (Request::Watch { row: 0 }, "no run"),
        (Request::Save, "no run"),
        (Request::Restore, "no checkpoint came"),
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
    let rows: String = (0..20)
        .map(|i| {
            format!(
                "{{\"prompt\":\"describe the band : \",\"chosen\":\"they ordered a cake .\",\"rejected\":\"we ate a gift {} .\"}}\n",
                if i % 2 == 0 { "and" } else { "but" }
            )
        })
        .collect();
    let (reply, _) = ask_with(
        &mut session,
        Request::OpenData {
            name: "rows.jsonl".into(),
        },
        vec![rows.into_bytes()],
    );
    assert!(
        matches!(
            &reply,
            Reply::Data {
                rows: 20,
                pairs: true,
                ..
            }
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
