//! One optimiser step: what page and command share at the bottom.
//!
//! It reads back from the device once, at its end. With a frozen trunk, what the *next* step will see for the first time
//! comes back in the same reading (the rest right after it where it is much), so that nothing is read inside a step. The first
//! step of a run, and the first after a resume, has its states read before it begins.

use super::broken::broken_term;
use super::dataset::{EncodedRow, layout, unpaired_layout};
use super::extras::{extras, share_counts};
use super::forward::{Reader, read_steps, run_trunk};
use super::optimizer::{NamedGradients, clip_scale, collect_gradients, global_norm};
use super::readings::{Readings, read_all};
use super::run::count;
use super::sampler::Sampler;
use super::schedule::factor;
use super::scorer::pad_of;
use super::trunk_cache::Coming;
use super::{Metrics, Run, TrainConfig, TrainError};
use crate::objective::Progress;
use crate::reward::{Extras, Layout, Steps, StepsConfig};
use burn::tensor::{Device, Transaction};

/// The batches of an optimiser step, one a micro-batch.
fn next_batches(sampler: &mut Sampler, config: &TrainConfig, lengths: &[usize]) -> Vec<Vec<usize>> {
    (0..config.gradient_accumulation_steps)
        .map(|_| sampler.next_batch(lengths))
        .collect()
}

impl Run {
    /// One step of the optimiser over its micro-batches; what it says under its names.
    pub(super) async fn optimizer_step(&mut self) -> Result<Metrics, TrainError> {
        let pad = pad_of(&self.model.tokenizer);
        let autodiff = self.device.device.clone().autodiff();
        let batches = next_batches(&mut self.sampler, &self.config, &self.lengths);
        // A frozen trunk's states of these rows are there already, but for a run's first step and the first after a resume.
        let cfg = self.objective.steps_config().clone();
        for groups in self.cache.missing(&batches, &self.train_rows) {
            self.fetch_states(&groups, &cfg, &autodiff).await?;
        }
        let layouts: Vec<Layout> = batches
            .iter()
            .map(|batch| {
                let rows: Vec<&EncodedRow> =
                    batch.iter().map(|row| &self.train_rows[*row]).collect();
                match self.unpaired {
                    true => unpaired_layout(&rows, pad),
                    false => layout(&rows, pad),
                }
            })
            .collect();
        let normaliser = count(&layouts);
        let mut extras = batches
            .iter()
            .zip(&layouts)
            .map(|(batch, layout)| {
                let rows: Vec<&EncodedRow> =
                    batch.iter().map(|row| &self.train_rows[*row]).collect();
                extras(self.objective.as_ref(), &rows, layout, &self.device.device)
            })
            .collect::<Result<Vec<Extras>, _>>()?;
        share_counts(&mut extras);
        let progress = Progress {
            step: self.step,
            total: self.config.steps,
        };

        let mut gradients = NamedGradients::new();
        let mut readings = Readings::new(self.step + 1, self.config.steps);
        let mut kept: Vec<Steps> = Vec::new();
        for (micro, ((batch, layout), extras)) in
            batches.iter().zip(&layouts).zip(extras).enumerate()
        {
            let trunk = match self
                .cache
                .states(batch, &self.train_rows, layout, &cfg, &autodiff)?
            {
                Some(states) => states,
                None => run_trunk(
                    &self.model.decoder,
                    self.objective.as_ref(),
                    layout,
                    &autodiff,
                    false,
                ),
            };
            let reader = Reader {
                decoder: &self.model.decoder,
                head: &self.head,
                objective: self.objective.as_ref(),
                reference: self.reference.as_ref(),
            };
            let pass = read_steps(reader, layout, normaliser, &autodiff, trunk);
            let steps = pass.steps.with_extras(Extras {
                features: self.features(micro, layout, &autodiff),
                prototypes: self.head.prototypes(),
                ..extras
            });
            let evaluation = self.objective.evaluate(&steps, progress);
            let mut backward = evaluation.loss.backward();
            collect_gradients(
                "",
                &self.model.decoder.weights,
                &mut backward,
                &mut gradients,
            );
            if let Some(lora) = &self.model.decoder.lora {
                collect_gradients("lora.", &lora.weights, &mut backward, &mut gradients);
            }
            collect_gradients("", &self.head.weights, &mut backward, &mut gradients);

            readings.take(evaluation, &steps, self.objective.as_ref());
            kept.push(steps);
        }

        let norm = global_norm(&mut gradients, &self.device.device);
        let scale = clip_scale(&norm, self.config.max_grad_norm);
        let rate = factor(
            self.config.lr_scheduler_type,
            self.config.warmup_ratio,
            self.step,
            self.config.steps,
        );
        let trunk_rate = self.config.learning_rate * rate;
        let head_rate = self
            .config
            .head_learning_rate
            .unwrap_or(self.config.learning_rate)
            * rate;
        let scale = scale.as_ref();
        let optimizer = &mut self.optimizer;
        optimizer.step(
            "",
            &mut self.model.decoder.weights,
            &mut gradients,
            trunk_rate,
            scale,
        );
        if let Some(lora) = &mut self.model.decoder.lora {
            optimizer.step(
                "lora.",
                &mut lora.weights,
                &mut gradients,
                trunk_rate,
                scale,
            );
        }
        optimizer.step("", &mut self.head.weights, &mut gradients, head_rate, scale);

        // What the next step will see for the first time is computed and read back along with this one's numbers.
        let mut ahead = self.missing_next().into_iter();
        let first = ahead.next().unwrap_or_default();
        let coming = self.compute_states(&first, &autodiff);
        let (transaction, readings) = readings.register(norm);
        let mut numbers = read_all(coming.register(transaction, &cfg))
            .await?
            .into_iter();
        let (norm, mut metrics, more) = readings.named(&mut numbers, self.objective.as_ref());
        self.cache.fill(coming, &cfg, &mut numbers);
        if let Some((term, value)) = broken_term(&metrics, f64::from(norm)) {
            return Err(TrainError::NonFinite {
                row: self.name_broken_row(&term, &batches, kept).await,
                term,
                value,
                step: self.step + 1,
            });
        }
        drop(kept);
        for groups in ahead {
            self.fetch_states(&groups, &cfg, &autodiff).await?;
        }
        self.step += 1;
        metrics.extend(more);
        metrics.insert("grad_norm".into(), f64::from(norm));
        metrics.insert("learning_rate".into(), trunk_rate);
        metrics.insert("epoch".into(), self.sampler.epochs());
        metrics.insert(
            "num_tokens".into(),
            layouts
                .iter()
                .map(|l| l.segments.iter().filter(|s| **s > 0).count())
                .sum::<usize>() as f64,
        );
        Ok(metrics)
    }

    /// The frozen trunk's states of some groups of rows, on the device.
    fn compute_states(&self, groups: &[usize], device: &Device) -> Coming {
        let (decoder, objective) = (&self.model.decoder, self.objective.as_ref());
        let rows = &self.train_rows;
        self.cache.compute(groups, rows, decoder, objective, device)
    }

    /// The same read back and kept.
    async fn fetch_states(
        &mut self,
        groups: &[usize],
        cfg: &StepsConfig,
        device: &Device,
    ) -> Result<(), TrainError> {
        let coming = self.compute_states(groups, device);
        let numbers = read_all(coming.register(Transaction::default(), cfg)).await?;
        self.cache.fill(coming, cfg, &mut numbers.into_iter());
        Ok(())
    }

    /// Groups of rows whose states the step after this one will be the first to see; none where this is the last.
    pub(super) fn missing_next(&self) -> Vec<Vec<usize>> {
        if self.cache.is_complete() || self.step + 1 >= self.config.steps {
            return Vec::new();
        }
        let mut ahead = self.sampler.clone();
        let batches = next_batches(&mut ahead, &self.config, &self.lengths);
        self.cache.missing(&batches, &self.train_rows)
    }
}
