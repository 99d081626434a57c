//! What the page's engine holds between requests, and how it answers each. Plain Rust: tests drive it natively with
//! the same requests that the page sends.

use super::protocol::{DataInfo, MethodInfo, Reply, Request};
use crate::credit::CREDITS;
use crate::data::{Answer, Content, DemonstrationRow, Rows, check, read_json, split_by_hash};
use crate::device::{self, OpenDevice};
use crate::objective::{METHODS, RowKind};
use crate::reward::{TokenRewardRecord, Trust};
use crate::text::EncodeOptions;
use crate::train::{
    Event, Files, LoadedModel, Run, RunInfo, Scorer, TrainConfig, TrainError, TrustFile, Verdict,
    checkpoint_digest, encode_rows, open_model, world_model, world_rows,
};

/// The engine's state. Whatever fails leaves it as it was.
#[derive(Default)]
pub struct Session {
    device: Option<OpenDevice>,
    model: Option<LoadedModel>,
    data: Option<OpenRows>,
    run: Option<Run>,
    /// Why the run cannot go on: its numbers left the range of f32. Nothing is asked of it any more, so that no such number
    /// is shown or saved.
    broken: Option<String>,
    watched: usize,
    /// What the map of an opened checkpoint passed. It holds until the next step, which makes another map.
    trust: Option<Trusted>,
}

/// Results on truths of the run as it was after a step.
struct Trusted {
    step: usize,
    verdict: Verdict,
}

/// Rows that are open.
struct OpenRows {
    name: String,
    rows: Rows,
    /// Seed and number of the rows that the built-in world drew: it can draw them again as the other kind.
    world: Option<(u64, usize)>,
}

impl OpenRows {
    fn of_world(seed: u64, count: usize, demonstrations: bool) -> Self {
        Self {
            name: "built-in world".into(),
            rows: world_rows(count, seed, demonstrations),
            world: Some((seed, count)),
        }
    }

    fn info(&self) -> DataInfo {
        DataInfo {
            name: self.name.clone(),
            rows: self.rows.len(),
            pairs: matches!(self.rows, Rows::Preferences(_)),
            longer_wins: check(&self.rows, &[])
                .longer_wins_characters
                .map(|floor| floor.accuracy),
        }
    }
}

/// Longest title of a row in the picker, in characters.
const TITLE: usize = 80;

impl Session {
    /// Answers a request with its buffers.
    pub async fn handle(
        &mut self,
        request: Request,
        buffers: Vec<Vec<u8>>,
    ) -> (Reply, Vec<Vec<u8>>) {
        match self.answer(request, buffers).await {
            Ok(answer) => answer,
            Err(message) => (Reply::Error { message }, Vec::new()),
        }
    }

    async fn answer(
        &mut self,
        request: Request,
        buffers: Vec<Vec<u8>>,
    ) -> Result<(Reply, Vec<Vec<u8>>), String> {
        let reply = match request {
            Request::Describe => Ok(catalogue()),
            Request::OpenDevice { choice } => {
                let opened = device::open(choice).await.map_err(text)?;
                let reply = Reply::Device {
                    device: opened.info.clone(),
                };
                self.device = Some(opened);
                self.model = None;
                self.hold(None);
                Ok(reply)
            }
            Request::UseWorld {
                seed,
                rows,
                demonstrations,
            } => {
                self.model = Some(world_model(&self.device()?.device).map_err(text)?);
                let count = rows.clamp(20, 100_000);
                Ok(self.open_rows(OpenRows::of_world(seed, count, demonstrations)))
            }
            Request::OpenModel { name, files } => {
                if files.len() != buffers.len() {
                    return Err(format!(
                        "{} file names came with {} files",
                        files.len(),
                        buffers.len()
                    ));
                }
                let contents: Files<'_> = files
                    .iter()
                    .cloned()
                    .zip(buffers.iter().map(Vec::as_slice))
                    .collect();
                let model = open_model(&name, &contents, &self.device()?.device).map_err(text)?;
                let config = &model.decoder.config;
                let reply = Reply::Model {
                    name: model.name.clone(),
                    summary: format!(
                        "{:?}, {} layers of {}, {} heads, vocabulary {}, context {}",
                        config.architecture,
                        config.layers,
                        config.hidden_size,
                        config.heads,
                        config.vocab_size,
                        config.max_position
                    ),
                    parameters: model.decoder.parameters(),
                };
                self.model = Some(model);
                self.hold(None);
                Ok(reply)
            }
            Request::OpenData { name } => {
                let bytes = buffers.first().ok_or("no file came with the request")?;
                let rows = read_json(bytes, &name).map_err(text)?;
                Ok(self.open_rows(OpenRows {
                    name,
                    rows,
                    world: None,
                }))
            }
            Request::Configure { config } => self.configure(config),
            Request::Train { steps } => self.train(steps).await,
            Request::Stop => self.stop().await,
            Request::Watch { row } => {
                self.watched = row;
                let records = watched_records(self.sound()?, self.trust.as_ref(), row);
                let records = records.await.map_err(text)?;
                Ok(Reply::Tokens { records })
            }
            Request::Score { prompt, answer } => self.score(prompt, answer).await,
            Request::Save => {
                let run = self.sound()?;
                let bytes = run.checkpoint().await.map_err(text)?;
                let step = run.steps_taken();
                let name = format!(
                    "avascope-{}-step-{step:06}.safetensors",
                    run.config().method
                );
                return Ok((Reply::Saved { name, step }, vec![bytes]));
            }
            Request::Restore { config } => {
                let bytes = buffers
                    .first()
                    .ok_or("no checkpoint came with the request")?;
                let trust = buffers.get(1).map(Vec::as_slice);
                self.restore(bytes, trust, config).await
            }
        };
        reply.map(|reply| (reply, Vec::new()))
    }

    fn device(&self) -> Result<&OpenDevice, String> {
        self.device
            .as_ref()
            .ok_or_else(|| "no device is open yet".into())
    }

    fn model(&self) -> Result<&LoadedModel, String> {
        self.model
            .as_ref()
            .ok_or_else(|| "no model is open; use the built-in world or open files".into())
    }

    /// The open rows. What else a run needs is asked for before them, in the order in which a person gives it.
    fn rows(&self) -> Result<&OpenRows, String> {
        self.device()?;
        self.model()?;
        self.data
            .as_ref()
            .ok_or_else(|| "no rows are open; use the built-in world or open a file".into())
    }

    /// Puts a run, or none, in the place of the one that was there.
    fn hold(&mut self, run: Option<Run>) {
        self.run = run;
        self.broken = None;
        self.watched = 0;
        self.trust = None;
    }

    /// The run, while its numbers can be believed.
    fn sound(&self) -> Result<&Run, String> {
        match &self.broken {
            Some(message) => Err(message.clone()),
            None => Ok(self.run.as_ref().ok_or(NO_RUN)?),
        }
    }

    fn open_rows(&mut self, rows: OpenRows) -> Reply {
        let info = rows.info();
        self.data = Some(rows);
        self.hold(None);
        Reply::Data(info)
    }

    fn new_run(&self, config: TrainConfig, rows: &Rows) -> Result<Run, String> {
        let (device, model) = (self.device()?.clone(), self.model()?.clone());
        let rows = match rows_wanted(&config)? {
            RowKind::Demonstrations => rows.clone().chosen_answers(),
            _ => rows.clone(),
        };
        let (train, held_out) = split_by_hash(rows, config.held_out, "avascope");
        Run::new(config, model, train, held_out, device).map_err(text)
    }

    fn configure(&mut self, config: TrainConfig) -> Result<Reply, String> {
        let run = self.new_run(config, &self.rows()?.rows)?;
        let reply = Reply::Configured {
            run: run.info().clone(),
            watchable: watchable(&run),
        };
        self.hold(Some(run));
        Ok(reply)
    }

    async fn restore(
        &mut self,
        bytes: &[u8],
        trust: Option<&[u8]>,
        settings: Option<TrainConfig>,
    ) -> Result<Reply, String> {
        let verdict = trust.map(|trust| verdict(bytes, trust)).transpose()?;
        let own = crate::train::describe_checkpoint(bytes)
            .map_err(text)?
            .config;
        let config = settings.unwrap_or(own);
        let open = self.rows()?;
        let pairs = rows_wanted(&config)? == RowKind::Pairs;
        let drawn = match open.world {
            Some((seed, count)) if pairs != matches!(open.rows, Rows::Preferences(_)) => {
                Some(OpenRows::of_world(seed, count, !pairs))
            }
            _ => None,
        };
        let rows = drawn.as_ref().unwrap_or(open);
        let mut run = self.new_run(config, &rows.rows)?;
        run.restore(bytes).await.map_err(text)?;
        let reply = Reply::Restored {
            step: run.steps_taken(),
            finished: run.finished(),
            config: run.config().clone(),
            run: said_with(run.info().clone(), verdict.as_ref()),
            watchable: watchable(&run),
            data: rows.info(),
        };
        let step = run.steps_taken();
        // Only a complete restore replaces the run.
        if drawn.is_some() {
            self.data = drawn;
        }
        self.hold(Some(run));
        self.trust = verdict.map(|verdict| Trusted { step, verdict });
        Ok(reply)
    }

    async fn train(&mut self, steps: usize) -> Result<Reply, String> {
        self.sound()?;
        let run = self.run.as_mut().ok_or(NO_RUN)?;
        let mut events = Vec::new();
        let mut result = Ok(());
        for _ in 0..steps.max(1) {
            if run.finished().is_some() || result.is_err() {
                break;
            }
            result = run.advance_into(&mut events).await;
        }
        if result.is_ok() {
            result = match watched_records(run, self.trust.as_ref(), self.watched).await {
                Ok(records) => {
                    events.push(Event::Tokens {
                        step: run.steps_taken(),
                        records,
                    });
                    Ok(())
                }
                Err(error) => {
                    events.extend(Event::failed(&error, run.steps_taken()));
                    Err(error)
                }
            };
        }
        let finished = run.finished().is_some();
        Ok(self.told(events, finished, result))
    }

    async fn stop(&mut self) -> Result<Reply, String> {
        let run = self.sound()?;
        let mut events = Vec::new();
        let mut result = Ok(());
        // A run that has ended by itself has said so.
        if run.finished().is_none() {
            let step = run.steps_taken();
            if !run.held_out().is_empty() {
                match run.evaluate().await {
                    Ok(metrics) => events.push(Event::Evaluation { step, metrics }),
                    Err(error) => {
                        events.extend(Event::failed(&error, step));
                        result = Err(error);
                    }
                }
            }
            if result.is_ok() {
                events.push(run.stopped());
            }
        }
        let finished = result.is_ok();
        Ok(self.told(events, finished, result))
    }

    /// What happened, and what broke it off. A failure of the run's numbers is kept.
    fn told(
        &mut self,
        events: Vec<Event>,
        finished: bool,
        result: Result<(), TrainError>,
    ) -> Reply {
        if let Some(Event::Failed { message, .. }) = events.last() {
            self.broken = Some(message.clone());
        }
        Reply::Events {
            events,
            finished: finished && result.is_ok(),
            error: result.err().map(text),
        }
    }

    async fn score(&self, prompt: String, answer: String) -> Result<Reply, String> {
        let run = self.sound()?;
        let answer = Answer {
            content: Content::Text(answer),
            spans: None,
            true_rewards: None,
            true_reward_std: None,
        };
        let rows = Rows::Demonstrations(vec![DemonstrationRow {
            id: "own".into(),
            line: 1,
            prompt: Content::Text(prompt),
            answer,
        }]);
        let scorer = scorer(run, self.trust.as_ref()).map_err(text)?;
        let model = scorer.model();
        let options = EncodeOptions {
            max_length: run
                .config()
                .max_length
                .min(model.decoder.config.max_position),
            truncation: run.config().truncation,
            append_eos: true,
        };
        let rows = encode_rows(&rows, &model.tokenizer, &options).map_err(|error| match error {
            TrainError::Row { reason, .. } => reason,
            error => error.to_string(),
        })?;
        let scored = scorer.score(&rows).await.map_err(text)?;
        Ok(Reply::Tokens {
            records: scored.records,
        })
    }
}

const NO_RUN: &str = "no run is ready; set one up first";

/// What a configuration's method learns from.
fn rows_wanted(config: &TrainConfig) -> Result<RowKind, String> {
    crate::objective::build(&config.method, &config.options)
        .map(|method| method.rows())
        .map_err(text)
}

/// Short titles of the held-out rows.
fn watchable(run: &Run) -> Vec<String> {
    run.held_out()
        .iter()
        .map(|row| {
            let answer = row
                .sides
                .first()
                .map_or("", |side| side.encoded.answer_text.as_str());
            let title = format!("{} {answer}", row.prompt);
            title.trim().chars().take(TITLE).collect()
        })
        .collect()
}

/// A held-out row's records; none where there is no such row.
/// The run as it is, for scoring, with what its map is known to have passed.
fn scorer(run: &Run, trust: Option<&Trusted>) -> Result<Scorer, TrainError> {
    let mut scorer = run.scorer()?;
    if let Some(Trusted { step, verdict }) = trust
        && *step == run.steps_taken()
    {
        scorer.set_trust(verdict.trust, verdict.checked.clone());
    }
    Ok(scorer)
}

/// What a file of results on truths says of a checkpoint's own map.
fn verdict(checkpoint: &[u8], trust: &[u8]) -> Result<Verdict, String> {
    let digest = checkpoint_digest(checkpoint).map_err(text)?;
    let file = TrustFile::read(trust).map_err(|reason| {
        format!("the file of results on truths cannot be used: {reason}; open the checkpoint without it, and its map counts as exploratory")
    })?;
    Ok(file.verdict(&digest, CREDITS[0].name))
}

/// A run's description, with a note on truths that its map did not pass, or that none are known of it.
fn said_with(mut info: RunInfo, verdict: Option<&Verdict>) -> RunInfo {
    let Some(verdict) = verdict else {
        return info;
    };
    let note = match (verdict.trust, verdict.failed.as_slice()) {
        (Trust::Checked, _) => return info,
        (_, []) => "the results on truths say too little of this checkpoint's map: it counts as exploratory".into(),
        (_, failed) => format!("this checkpoint's map did not pass: {}", failed.join("; ")),
    };
    info.warnings.push(note);
    info
}

async fn watched_records(
    run: &Run,
    trust: Option<&Trusted>,
    row: usize,
) -> Result<Vec<TokenRewardRecord>, TrainError> {
    let Some(row) = run.held_out().get(row) else {
        return Ok(Vec::new());
    };
    let scored = scorer(run, trust)?.score(std::slice::from_ref(row)).await?;
    Ok(scored.records)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn catalogue() -> Reply {
    let methods = METHODS
        .iter()
        .map(|method| {
            let defaults = (method.defaults)();
            MethodInfo {
                name: method.name.into(),
                title: method.title.into(),
                citation: method.citation.into(),
                pairs: (method.build)(&defaults).is_ok_and(|m| m.rows() == RowKind::Pairs),
                defaults,
            }
        })
        .collect();
    Reply::Catalogue {
        methods,
        config: TrainConfig::default(),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
