//! Maps to teach on: small worlds with walls and cliffs, and the check that a map has something to be after.

use super::gridworld::{ACTIONS, Cell, GridError, Gridworld};

/// A built-in map.
#[derive(Clone, Copy, Debug)]
pub struct TeachingMap {
    /// Its name in commands.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// The map, as [`Gridworld::from_map`] reads it.
    pub text: &'static str,
}

/// All built-in maps, the default first.
pub const MAPS: &[TeachingMap] = &[
    TeachingMap {
        name: "bend",
        title: "5 x 4: a safe way around a wall and a short one between two cliffs",
        text: ".....\n.##C.\nS....\n.C..G",
    },
    TeachingMap {
        name: "classic",
        title: "4 x 3: a wall, a goal and a pit (S. Russell, P. Norvig, Artificial Intelligence)",
        text: "...G\n.#.C\nS...",
    },
    TeachingMap {
        name: "cliff",
        title: "6 x 3: the cliff between start and goal (R. Sutton, A. Barto, Reinforcement Learning), shortened",
        text: "......\n......\nSCCCCG",
    },
];

impl TeachingMap {
    /// The map of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        MAPS.iter().find(|map| map.name == name)
    }
}

/// Reads a map that has a goal which the start can reach without stepping over a cliff. Moves are certain.
///
/// # Errors
/// As [`Gridworld::from_map`]; no goal, or none within reach.
pub fn teaching_world(map: &str) -> Result<Gridworld, GridError> {
    let world = Gridworld::from_map(map)?;
    if (0..world.states()).all(|s| world.cell(s) != Cell::Goal) {
        return Err(GridError::NoGoal);
    }
    let mut seen = vec![false; world.states()];
    let mut open = vec![world.start()];
    while let Some(state) = open.pop() {
        if std::mem::replace(&mut seen[state], true) || world.is_terminal(state) {
            continue;
        }
        open.extend((0..ACTIONS.len()).map(|action| world.step_to(state, action)));
    }
    let reached = |s: usize| seen[s] && world.cell(s) == Cell::Goal;
    if (0..world.states()).any(reached) {
        Ok(world)
    } else {
        Err(GridError::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_map_is_a_world_with_a_wall_or_a_cliff_and_a_goal_within_reach() {
        for map in MAPS {
            let world = teaching_world(map.text).unwrap();
            let has = |cell| (0..world.states()).any(|s| world.cell(s) == cell);
            assert!(has(Cell::Goal) && has(Cell::Cliff), "{}", map.name);
            assert_eq!(TeachingMap::named(map.name).unwrap().text, map.text);
        }
        assert!(TeachingMap::named("nowhere").is_none());
    }

    #[test]
    fn a_goal_that_is_missing_or_shut_off_is_refused() {
        assert_eq!(teaching_world("S.C"), Err(GridError::NoGoal));
        for map in ["S#G", "SCG", ".C.\nS#G"] {
            assert_eq!(teaching_world(map), Err(GridError::Unreachable), "{map}");
        }
        assert!(teaching_world("...\nSCG").is_ok());
        let odd = teaching_world("S\u{1b}G").unwrap_err().to_string();
        assert!(
            odd.contains("line 1, column 2") && !odd.contains('\u{1b}'),
            "{odd}"
        );
    }
}
