//! What can go wrong between text and ids.

use thiserror::Error;

/// Why a tokenizer could not be read, or a text not be made into a row.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TextError {
    /// The file's bytes do not have the layout that its kind has.
    #[error("{file} cannot be read: {reason}; download or export it again")]
    Broken {
        /// Which file or part of a file.
        file: &'static str,
        /// What the reader found.
        reason: String,
    },
    /// A well-formed tokenizer that needs a part which is not built in.
    #[error("this tokenizer needs {what}, which is not supported; supported are {supported}")]
    Unsupported {
        /// The part that is missing here.
        what: String,
        /// What can be used instead.
        supported: &'static str,
    },
    /// Two places give one token different ids.
    #[error(
        "the vocabulary disagrees with itself about the token {token:?}: id {here} in {here_file}, {there} in \
         {there_file}; take both files from the same model"
    )]
    VocabularyDisagreement {
        /// The token's text.
        token: String,
        /// Id in the first place.
        here: u32,
        /// The first place.
        here_file: &'static str,
        /// What the second place says: an id, or that the token is missing.
        there: String,
        /// The second place.
        there_file: &'static str,
    },
    /// The vocabulary has another size than the model that it came with.
    #[error(
        "the tokenizer file holds {found} tokens where the model has {expected}; take both files from the same model"
    )]
    VocabularySize {
        /// Tokens that the model has.
        expected: usize,
        /// Tokens in the file.
        found: usize,
    },
    /// An id beyond the vocabulary, or in a hole of it.
    #[error(
        "token id {id} is not in the tokenizer's vocabulary of {vocab_size}; check that tokenizer and model belong \
         together"
    )]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// One more than the largest id.
        vocab_size: usize,
    },
    /// The tokenizer failed on a text.
    #[error("the text of {characters} characters cannot be tokenized: {reason}")]
    Encode {
        /// Code points in the text.
        characters: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// The tokenizer failed to make text of ids.
    #[error("{tokens} token ids cannot be decoded: {reason}")]
    Decode {
        /// How many ids.
        tokens: usize,
        /// What the tokenizer said.
        reason: String,
    },
    /// Messages without a template to write them with.
    #[error(
        "the row holds messages, but the model has no chat template; give prompt and answer as strings, or load the \
         tokenizer with a chat template"
    )]
    NoChatTemplate,
    /// The template's own text is wrong, or asks for something that is not there.
    #[error("the chat template fails: {reason}")]
    TemplateFailed {
        /// What the template engine said.
        reason: String,
    },
    /// The template refused the conversation (`raise_exception`).
    #[error(
        "the chat template refuses this conversation: {reason}; change the messages' roles or order"
    )]
    TemplateRefused {
        /// The template's own words.
        reason: String,
    },
    /// The template writes a turn differently once more turns follow, and so hides where it starts or ends.
    #[error(
        "the chat template writes assistant turn {turn} differently when more messages follow, so its tokens cannot be \
         found; give the row as strings, or only the last turn as the answer"
    )]
    TemplateUnstable {
        /// The assistant turn, counted from 1 among all messages of the conversation.
        turn: usize,
    },
    /// An answer in messages in which nobody answers.
    #[error("none of the answer's {messages} messages has the role \"assistant\"; add one")]
    NoAssistantTurn {
        /// How many messages the answer has.
        messages: usize,
    },
    /// Nothing to learn from.
    #[error("the answer is empty; remove the row or fill it in")]
    EmptyAnswer,
    /// Longer than allowed under [`super::Truncation::Error`].
    #[error(
        "the row has {length} tokens where {max_length} are allowed; raise the maximum, shorten the row or allow truncation"
    )]
    TooLong {
        /// Tokens of the row.
        length: usize,
        /// Tokens allowed.
        max_length: usize,
    },
    /// No answer token with a token before it.
    #[error(
        "the row of {length} tokens, cut to at most {max_length}, has no answer token that follows another token; raise \
         the maximum, shorten the prompt or cut from the other end"
    )]
    NoAnswerLeft {
        /// Tokens of the row before truncation.
        length: usize,
        /// Tokens allowed.
        max_length: usize,
    },
}
