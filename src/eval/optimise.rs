//! L-BFGS for smooth convex functions: deterministic, no step size to choose.

use super::EvalError;
use std::collections::VecDeque;

/// Remembered steps; 10 is the usual choice (Liu and Nocedal 1989).
const MEMORY: usize = 10;

/// Minimises a smooth convex `function`, which answers (value, gradient), from `start`, until the largest absolute
/// gradient is at most `tolerance`.
///
/// # Errors
/// [`EvalError::NotConverged`] after `max_steps`, or when no step along the search direction lowers the value any more
/// while the gradient is still above a thousand tolerances.
pub fn minimise(
    what: &'static str,
    start: Vec<f64>,
    tolerance: f64,
    max_steps: usize,
    mut function: impl FnMut(&[f64]) -> (f64, Vec<f64>),
) -> Result<Vec<f64>, EvalError> {
    let mut x = start;
    let (mut value, mut gradient) = function(&x);
    // (step, change of gradient, 1 / their product)
    let mut history: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    for step in 0..max_steps {
        let worst = largest(&gradient);
        if worst <= tolerance {
            return Ok(x);
        }
        let mut direction = two_loops(&gradient, &history);
        let mut slope = dot(&direction, &gradient);
        if slope.is_nan() || slope >= 0.0 {
            history.clear();
            direction = gradient.iter().map(|g| -g / worst).collect();
            slope = dot(&direction, &gradient);
        }
        // Halving until Armijo's rule holds; the curvature condition is checked when the pair is stored.
        let mut length = 1.0;
        let next = loop {
            let candidate: Vec<f64> = x
                .iter()
                .zip(&direction)
                .map(|(x, d)| x + length * d)
                .collect();
            let (v, g) = function(&candidate);
            if v <= value + 1e-4 * length * slope {
                break Some((candidate, v, g));
            }
            length /= 2.0;
            if length < 1e-20 {
                break None;
            }
        };
        let Some((candidate, v, g)) = next else {
            // Rounding in the value hides further progress: accept when the gradient agrees that this is the end.
            if worst <= 1e3 * tolerance {
                return Ok(x);
            }
            return Err(EvalError::NotConverged {
                what,
                steps: step,
                gradient: worst,
            });
        };
        let s: Vec<f64> = candidate.iter().zip(&x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = g.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let sy = dot(&s, &y);
        if sy > 1e-14 * dot(&y, &y) {
            if history.len() == MEMORY {
                history.pop_front();
            }
            history.push_back((s, y, 1.0 / sy));
        }
        (x, value, gradient) = (candidate, v, g);
    }
    let worst = largest(&gradient);
    if worst <= tolerance {
        return Ok(x);
    }
    Err(EvalError::NotConverged {
        what,
        steps: max_steps,
        gradient: worst,
    })
}

/// Minus the approximate inverse Hessian times the gradient (Nocedal and Wright, algorithm 7.4).
fn two_loops(gradient: &[f64], history: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.to_vec();
    let mut alphas = Vec::with_capacity(history.len());
    for (s, y, rho) in history.iter().rev() {
        let alpha = rho * dot(s, &q);
        add(&mut q, -alpha, y);
        alphas.push(alpha);
    }
    // The first step has length 1 in its largest coordinate; later ones take the last pair's curvature.
    let scale = history
        .back()
        .map_or(1.0 / largest(gradient), |(_, y, rho)| {
            1.0 / (rho * dot(y, y))
        });
    q.iter_mut().for_each(|v| *v *= scale);
    for ((s, y, rho), alpha) in history.iter().zip(alphas.iter().rev()) {
        let beta = rho * dot(y, &q);
        add(&mut q, alpha - beta, s);
    }
    q.iter_mut().for_each(|v| *v = -*v);
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn add(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(x, y)| *x += factor * y);
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, v| a.max(v.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badly_scaled_quadratic_is_solved() {
        let curvature = [1.0, 100.0, 1e4];
        let got = minimise("quadratic", vec![0.0; 3], 1e-9, 500, |x| {
            let r: Vec<f64> = x
                .iter()
                .zip(curvature)
                .map(|(x, c)| c * (x - 2.0))
                .collect();
            (
                0.5 * x
                    .iter()
                    .zip(curvature)
                    .map(|(x, c)| c * (x - 2.0) * (x - 2.0))
                    .sum::<f64>(),
                r,
            )
        })
        .unwrap();
        assert!(got.iter().all(|x| (x - 2.0).abs() < 1e-8), "{got:?}");
    }

    #[test]
    fn a_function_without_a_minimum_is_an_error() {
        let got = minimise("line", vec![0.0], 1e-9, 20, |x| (-x[0], vec![-1.0]));
        assert!(matches!(
            got,
            Err(EvalError::NotConverged { what: "line", .. })
        ));
    }
}
