//! What can go wrong with a model, its file or its adapter.

/// An error about a model, with the values that went wrong and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A JSON file is not JSON, or not of the expected form.
    #[error(
        "{file} is not readable as JSON: {reason}; download it again or check that it is the right file"
    )]
    Json {
        /// Which file.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The configuration lacks a field or holds a value out of range.
    #[error("config: `{field}` {problem}")]
    Config {
        /// The field's name in the file.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The model uses something that this library does not compute.
    #[error("unsupported {what}: {value}; supported: {supported}")]
    Unsupported {
        /// The kind of thing.
        what: &'static str,
        /// The value found.
        value: String,
        /// The values that work.
        supported: &'static str,
    },
    /// The file is damaged or not of the format it claims to be.
    #[error("{format} file: {problem}; the file is damaged or cut short, download it again")]
    Malformed {
        /// Name of the file format.
        format: &'static str,
        /// What is wrong, with the numbers.
        problem: String,
    },
    /// An error about one of several files.
    #[error("{file}: {error}")]
    InFile {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        error: Box<ModelError>,
    },
    /// Tensors that the architecture needs are not in the file.
    #[error(
        "the file lacks {count} tensor(s) that the configuration asks for, first `{first}`; check that config.json and all weight shards belong together"
    )]
    MissingTensors {
        /// How many.
        count: usize,
        /// The first one's name.
        first: String,
    },
    /// Tensors that the architecture does not know are in the file.
    #[error(
        "the file has {count} tensor(s) that the configuration does not know, first `{first}`; check that config.json belongs to these weights"
    )]
    UnexpectedTensors {
        /// How many.
        count: usize,
        /// The first one's name.
        first: String,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error(
        "tensor `{name}` has shape {found:?}, the configuration asks for {expected:?}; check that config.json belongs to these weights"
    )]
    Shape {
        /// The tensor's name.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// The same tensor comes twice.
    #[error("tensor `{name}` comes twice; give every shard once")]
    DuplicateTensor {
        /// The tensor's name.
        name: String,
    },
    /// A shard named in the index was not supplied.
    #[error("shard `{name}` is named in the index but was not given; add that file")]
    MissingShard {
        /// The shard's file name.
        name: String,
    },
    /// An adapter names a module that the model does not have.
    #[error("adapter target `{target}` fits no linear layer of this model; its layers are {known}")]
    AdapterTarget {
        /// The target as written in the adapter.
        target: String,
        /// Names of the layers.
        known: String,
    },
    /// Generation was asked for something impossible.
    #[error("generation: {problem}")]
    Generation {
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The device failed to hand back data.
    #[error("reading `{name}` back from the device failed: {reason}")]
    ReadBack {
        /// What was read.
        name: String,
        /// What the device said.
        reason: String,
    },
}

impl ModelError {
    /// The same with the file that it is about: a directory holds several.
    pub(crate) fn in_file(self, file: &str) -> Self {
        Self::InFile {
            file: file.into(),
            error: Box::new(self),
        }
    }

    pub(crate) fn config(field: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn malformed(format: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed {
            format,
            problem: problem.into(),
        }
    }
}
