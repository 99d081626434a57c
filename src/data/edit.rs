//! The fewest edits that turn one sequence into another: which tokens were kept, replaced, deleted, inserted.
//!
//! Levenshtein's distance with unit costs. Shortest ways are not unique, so the tie rule is part of the result: going back
//! from the end, the diagonal (keep or substitute) is taken first, then deletion, then insertion. Labels for token
//! supervision (idea: "Aligning LLMs via Fine-grained Supervision", arXiv 2406.02756) and the side-by-side view of two
//! answers both read this alignment.

use serde::Serialize;

/// Most cells of the table that one alignment fills: 64 Mi, one byte each, such as 8192 against 8192 tokens. The shared
/// end of both sequences is taken off first and costs nothing.
pub const MAX_ALIGN_CELLS: usize = 64 << 20;

/// One step from `a` to `b`; indices into `a` and `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Op {
    /// `a[a] == b[b]`.
    Keep {
        /// Index in `a`.
        a: usize,
        /// Index in `b`.
        b: usize,
    },
    /// `a[a]` became `b[b]`.
    Substitute {
        /// Index in `a`.
        a: usize,
        /// Index in `b`.
        b: usize,
    },
    /// `a[a]` is gone.
    Delete {
        /// Index in `a`.
        a: usize,
    },
    /// `b[b]` is new.
    Insert {
        /// Index in `b`.
        b: usize,
    },
}

/// The fewest edits from `a` to `b`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alignment {
    /// One step a kept, replaced, deleted or inserted token.
    pub ops: Vec<Op>,
    /// Indices into `a`, ascending.
    pub deleted_or_substituted: Vec<usize>,
    /// Indices into `b`, ascending.
    pub inserted_or_substituted: Vec<usize>,
    /// How many edits.
    pub distance: usize,
}

/// Sequences too long to align.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "aligning {a} with {b} tokens needs more than {limit} table cells; align shorter pieces, or words instead of \
     characters"
)]
pub struct AlignError {
    /// Tokens of the first sequence, without the shared end.
    pub a: usize,
    /// Tokens of the second sequence, without the shared end.
    pub b: usize,
    /// [`MAX_ALIGN_CELLS`].
    pub limit: usize,
}

const DIAGONAL: u8 = 0;
const DELETE: u8 = 1;
const INSERT: u8 = 2;

/// Aligns `a` (the original) with `b` (its edit).
///
/// # Errors
/// When the table would pass [`MAX_ALIGN_CELLS`]; time and memory grow with the product of both lengths.
pub fn align<T: PartialEq>(a: &[T], b: &[T]) -> Result<Alignment, AlignError> {
    // Going back from the end, equal tokens always lie on a shortest way and the diagonal comes first, so taking off the
    // shared end changes nothing. Taking off the shared beginning would break ties differently.
    let shared = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    let (n, m) = (a.len() - shared, b.len() - shared);
    let too_long = AlignError {
        a: n,
        b: m,
        limit: MAX_ALIGN_CELLS,
    };
    let cells = n
        .checked_mul(m)
        .filter(|cells| *cells <= MAX_ALIGN_CELLS)
        .ok_or(too_long)?;

    // way[i * m + j]: the step back from (i + 1, j + 1), by the tie rule. Two rows of distances are enough.
    let mut way = Vec::with_capacity(cells);
    let mut above: Vec<usize> = (0..=m).collect();
    let mut row = Vec::with_capacity(m + 1);
    for (i, x) in a.iter().take(n).enumerate() {
        row.clear();
        row.push(i + 1);
        let mut left = i + 1;
        for (y, up) in b.iter().take(m).zip(above.windows(2)) {
            let (diagonal, up) = match up {
                [diagonal, up] => (diagonal + usize::from(x != y), up + 1),
                _ => continue,
            };
            let (cost, step) = if diagonal <= up && diagonal <= left + 1 {
                (diagonal, DIAGONAL)
            } else if up <= left + 1 {
                (up, DELETE)
            } else {
                (left + 1, INSERT)
            };
            way.push(step);
            row.push(cost);
            left = cost;
        }
        std::mem::swap(&mut above, &mut row);
    }

    let mut ops: Vec<Op> = (0..shared)
        .rev()
        .map(|k| Op::Keep { a: n + k, b: m + k })
        .collect();
    let (mut i, mut j) = (n, m);
    while i > 0 || j > 0 {
        let step = match (i, j) {
            (0, _) => INSERT,
            (_, 0) => DELETE,
            _ => way.get((i - 1) * m + j - 1).copied().unwrap_or(DIAGONAL),
        };
        match step {
            DELETE => {
                i -= 1;
                ops.push(Op::Delete { a: i });
            }
            INSERT => {
                j -= 1;
                ops.push(Op::Insert { b: j });
            }
            _ => {
                (i, j) = (i - 1, j - 1);
                let same = a.get(i) == b.get(j);
                ops.push(if same {
                    Op::Keep { a: i, b: j }
                } else {
                    Op::Substitute { a: i, b: j }
                });
            }
        }
    }
    ops.reverse();

    let mut alignment = Alignment {
        ops,
        ..Alignment::default()
    };
    for op in &alignment.ops {
        match *op {
            Op::Keep { .. } => continue,
            Op::Delete { a } => alignment.deleted_or_substituted.push(a),
            Op::Insert { b } => alignment.inserted_or_substituted.push(b),
            Op::Substitute { a, b } => {
                alignment.deleted_or_substituted.push(a);
                alignment.inserted_or_substituted.push(b);
            }
        }
        alignment.distance += 1;
    }
    Ok(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by the definition: the whole table, nothing taken off.
    fn naive(a: &[u8], b: &[u8]) -> (Vec<usize>, Vec<usize>, usize) {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                table[i][j] = match (i, j) {
                    (0, _) => j,
                    (_, 0) => i,
                    _ => (table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]))
                        .min(table[i - 1][j] + 1)
                        .min(table[i][j - 1] + 1),
                };
            }
        }
        let (mut i, mut j, mut minus, mut plus) = (a.len(), b.len(), vec![], vec![]);
        while i > 0 || j > 0 {
            if i > 0
                && j > 0
                && table[i][j] == table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1])
            {
                (i, j) = (i - 1, j - 1);
                if a[i] != b[j] {
                    minus.push(i);
                    plus.push(j);
                }
            } else if i > 0 && table[i][j] == table[i - 1][j] + 1 {
                i -= 1;
                minus.push(i);
            } else {
                j -= 1;
                plus.push(j);
            }
        }
        minus.reverse();
        plus.reverse();
        (minus, plus, table[a.len()][b.len()])
    }

    proptest! {
        #[test]
        fn the_fast_way_equals_the_definition(a in prop::collection::vec(0_u8..4, 0..14), b in prop::collection::vec(0_u8..4, 0..14)) {
            let fast = align(&a, &b).unwrap();
            prop_assert_eq!(
                (fast.deleted_or_substituted.clone(), fast.inserted_or_substituted.clone(), fast.distance),
                naive(&a, &b)
            );
            let substituted = fast.ops.iter().filter(|op| matches!(op, Op::Substitute { .. })).count();
            prop_assert_eq!(
                fast.deleted_or_substituted.len() + fast.inserted_or_substituted.len(),
                fast.distance + substituted
            );
        }
    }

    #[test]
    fn the_small_example_of_the_method_comes_out() {
        let alignment = align(&[1, 2, 3], &[1, 4, 3, 5]).unwrap();
        assert_eq!(alignment.deleted_or_substituted, [1]);
        assert_eq!(alignment.inserted_or_substituted, [1, 3]);
        assert_eq!(alignment.distance, 2);
        use Op::{Insert, Keep, Substitute};
        assert_eq!(
            alignment.ops,
            [
                Keep { a: 0, b: 0 },
                Substitute { a: 1, b: 1 },
                Keep { a: 2, b: 2 },
                Insert { b: 3 }
            ]
        );
    }

    #[test]
    fn the_golden_alignments_come_out() {
        let Some(golden) = crate::test_data::golden("fine_grained") else {
            return;
        };
        let data = &golden["inputs"]["data"];
        let table =
            |name: &str| -> Vec<Vec<usize>> { serde_json::from_value(data[name].clone()).unwrap() };
        let unpad = |ids: &[usize], mask: &[usize]| -> Vec<usize> {
            ids.iter()
                .zip(mask)
                .filter(|(_, mask)| **mask == 1)
                .map(|(id, _)| *id)
                .collect()
        };
        let ones = |mask: &[usize]| -> Vec<usize> {
            mask.iter()
                .enumerate()
                .filter(|(_, value)| **value == 1)
                .map(|(index, _)| index)
                .collect()
        };
        let (orig, edit) = (table("ids_orig"), table("ids_edit"));
        let (attn_orig, attn_edit) = (table("attn_orig"), table("attn_edit"));
        let (minus, plus) = (table("edit_minus"), table("edit_plus"));
        let distance: Vec<usize> =
            serde_json::from_value(golden["expected"]["edit_distance"].clone()).unwrap();
        assert!(!orig.is_empty());
        for row in 0..orig.len() {
            let got = align(
                &unpad(&orig[row], &attn_orig[row]),
                &unpad(&edit[row], &attn_edit[row]),
            )
            .unwrap();
            assert_eq!(got.deleted_or_substituted, ones(&minus[row]), "row {row}");
            assert_eq!(got.inserted_or_substituted, ones(&plus[row]), "row {row}");
            assert_eq!(got.distance, distance[row], "row {row}");
        }
    }

    #[test]
    fn sequences_that_would_fill_the_memory_are_refused() {
        let (a, b) = (vec![0_u8; 9000], vec![1_u8; 9000]);
        let error = align(&a, &b).unwrap_err();
        assert_eq!(
            error,
            AlignError {
                a: 9000,
                b: 9000,
                limit: MAX_ALIGN_CELLS
            }
        );
        assert!(error.to_string().contains("align shorter pieces"));
        // A shared end of any length is free.
        assert_eq!(align(&a, &a).unwrap().distance, 0);
        assert_eq!(align(&a[..0], &b).unwrap().distance, 9000);
    }
}
