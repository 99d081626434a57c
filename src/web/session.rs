//! What the page's engine holds between requests, and how it answers each. Plain Rust: tests drive it natively with
//! the same requests that the page sends.

use super::protocol::{MethodInfo, Reply, Request};
use crate::data::{Answer, Content, DemonstrationRow, Rows, check, read_jsonl, split_by_hash};
use crate::device::{self, OpenDevice};
use crate::objective::{METHODS, RowKind};
use crate::text::EncodeOptions;
use crate::train::{
    Event, Files, LoadedModel, Run, TrainConfig, TrainError, encode_rows, open_model, world_model,
    world_rows,
};

/// The engine's state. Whatever fails leaves it as it was.
#[derive(Default)]
pub struct Session {
    device: Option<OpenDevice>,
    model: Option<LoadedModel>,
    data: Option<(String, Rows)>,
    run: Option<Run>,
    watched: usize,
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
                (self.model, self.run) = (None, None);
                Ok(reply)
            }
            Request::UseWorld {
                seed,
                rows,
                demonstrations,
            } => {
                let rows = world_rows(rows.clamp(20, 100_000), seed, demonstrations);
                self.model = Some(world_model(&self.device()?.device).map_err(text)?);
                self.data = Some(("built-in world".into(), rows));
                self.run = None;
                self.data_reply()
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
                self.run = None;
                Ok(reply)
            }
            Request::OpenData { name } => {
                let bytes = buffers.first().ok_or("no file came with the request")?;
                let rows = read_jsonl(bytes, &name).map_err(text)?;
                self.data = Some((name, rows));
                self.run = None;
                self.data_reply()
            }
            Request::Configure { config } => self.configure(config),
            Request::Train { steps } => self.train(steps).await,
            Request::Evaluate => {
                let run = self.run.as_ref().ok_or(NO_RUN)?;
                let metrics = run.evaluate().await.map_err(text)?;
                let event = Event::Evaluation {
                    step: run.steps_taken(),
                    metrics,
                };
                Ok(Reply::Events {
                    events: vec![event],
                    finished: run.finished().is_some(),
                })
            }
            Request::Watch { row } => {
                self.watched = row;
                Ok(Reply::Tokens {
                    records: self.watched_records().await?,
                })
            }
            Request::Score { prompt, answer } => self.score(prompt, answer).await,
            Request::Save => {
                let run = self.run.as_ref().ok_or(NO_RUN)?;
                let bytes = run.checkpoint().await.map_err(text)?;
                let step = run.steps_taken();
                let name = format!(
                    "avascope-{}-step-{step:06}.safetensors",
                    run.config().method
                );
                return Ok((Reply::Saved { name, step }, vec![bytes]));
            }
            Request::Restore => {
                let bytes = buffers
                    .first()
                    .ok_or("no checkpoint came with the request")?;
                let summary = crate::train::describe_checkpoint(bytes).map_err(text)?;
                // The checkpoint's own configuration is set up first; only a complete restore replaces the run.
                let mut run = self.new_run(summary.config)?;
                run.restore(bytes).await.map_err(text)?;
                let step = run.steps_taken();
                self.run = Some(run);
                Ok(Reply::Restored { step })
            }
        };
        reply.map(|reply| (reply, Vec::new()))
    }

    fn device(&self) -> Result<&OpenDevice, String> {
        self.device
            .as_ref()
            .ok_or_else(|| "no device is open yet".into())
    }

    fn data_reply(&self) -> Result<Reply, String> {
        let (name, rows) = self.data.as_ref().ok_or("no rows are open")?;
        let (count, pairs) = match rows {
            Rows::Preferences(rows) => (rows.len(), true),
            Rows::Demonstrations(_) | Rows::Unpaired(_) => (rows.len(), false),
        };
        let longer_wins = check(rows, &[])
            .longer_wins_characters
            .map(|floor| floor.accuracy);
        Ok(Reply::Data {
            name: name.clone(),
            rows: count,
            pairs,
            longer_wins,
        })
    }

    fn new_run(&self, config: TrainConfig) -> Result<Run, String> {
        let device = self.device()?.clone();
        let model = self
            .model
            .clone()
            .ok_or("no model is open; use the built-in world or open files")?;
        let (_, rows) = self
            .data
            .as_ref()
            .ok_or("no rows are open; use the built-in world or open a file")?;
        let wanted = crate::objective::build(&config.method, &config.options)
            .map_err(text)?
            .rows();
        let rows = match wanted {
            RowKind::Demonstrations => rows.clone().chosen_answers(),
            _ => rows.clone(),
        };
        let (train, held_out) = split_by_hash(rows, config.held_out, "avascope");
        Run::new(config, model, train, held_out, device).map_err(text)
    }

    fn configure(&mut self, config: TrainConfig) -> Result<Reply, String> {
        let run = self.new_run(config)?;
        let watchable = run
            .held_out()
            .iter()
            .map(|row| {
                let answer = row
                    .sides
                    .first()
                    .map_or("", |side| side.encoded.answer_text.as_str());
                let title = format!("{} {answer}", row.prompt);
                title.trim().chars().take(TITLE).collect()
            })
            .collect();
        let reply = Reply::Configured {
            run: run.info().clone(),
            watchable,
        };
        self.run = Some(run);
        self.watched = 0;
        Ok(reply)
    }

    async fn train(&mut self, steps: usize) -> Result<Reply, String> {
        let run = self.run.as_mut().ok_or(NO_RUN)?;
        let mut events = Vec::new();
        for _ in 0..steps.max(1) {
            if run.finished().is_some() {
                break;
            }
            match run.advance().await {
                Ok(more) => events.extend(more),
                Err(error) => return Err(error.to_string()),
            }
        }
        let (step, finished) = (run.steps_taken(), run.finished().is_some());
        events.push(Event::Tokens {
            step,
            records: self.watched_records().await?,
        });
        Ok(Reply::Events { events, finished })
    }

    async fn watched_records(&self) -> Result<Vec<crate::reward::TokenRewardRecord>, String> {
        let run = self.run.as_ref().ok_or(NO_RUN)?;
        let Some(row) = run.held_out().get(self.watched) else {
            return Ok(Vec::new());
        };
        let scored = run
            .scorer()
            .map_err(text)?
            .score(std::slice::from_ref(row))
            .await
            .map_err(text)?;
        Ok(scored.records)
    }

    async fn score(&self, prompt: String, answer: String) -> Result<Reply, String> {
        let run = self.run.as_ref().ok_or(NO_RUN)?;
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
        let scorer = run.scorer().map_err(text)?;
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
