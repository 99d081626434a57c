//! One prompt and one answer, made ready for the model: ids, which of them are the answer's, and where they stand in its
//! text.

use super::tokenizer::Marked;
use super::{Content, Message, TextError, TextTokenizer};

/// One answer made ready for the model. The vectors have one entry per token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedAnswer {
    /// Token ids, prompt first.
    pub ids: Vec<u32>,
    /// Whether the token is part of the answer. In a chat: the tokens of every assistant turn of the answer's messages,
    /// each with its end-of-turn token; assistant turns of the prompt are context.
    pub resp: Vec<bool>,
    /// The token's code points in `answer_text`, end exclusive; `None` for tokens outside of it (prompt, template,
    /// earlier turns, end-of-turn, EOS).
    pub offsets: Vec<Option<(usize, usize)>>,
    /// The answer as it is displayed: the string, or the last assistant turn's content. Never cut, also where the row is.
    /// A template that changes the content itself (drops its reasoning part) leaves the turn's text as it was written.
    pub answer_text: String,
    /// Whether tokens were cut off.
    pub truncated: bool,
}

/// What happens to a row with more than `max_length` tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    #[default]
    /// Keeps the end: drops what follows the last answer token, then tokens before the last answer from the left (a
    /// leading BOS stays), then tokens of the last answer from the right.
    KeepEnd,
    /// Keeps the first `max_length` tokens.
    KeepStart,
    /// The row is an error.
    Error,
}

/// How rows are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Most tokens a row may have, the model's context or less.
    pub max_length: usize,
    /// What happens to longer rows.
    pub truncation: Truncation,
    /// Whether an answer given as a string ends with EOS, where the tokenizer has one. A chat template ends turns itself.
    pub append_eos: bool,
}

/// A row before truncation. `last` is the range of the last answer's tokens.
struct Row {
    ids: Vec<u32>,
    resp: Vec<bool>,
    offsets: Vec<Option<(usize, usize)>>,
    answer_text: String,
    last: (usize, usize),
}

/// Makes one row of a prompt and its answer.
///
/// Two strings are tokenized apart and put one behind the other, so that no token straddles the border: what the
/// tokenizer puts in front (BOS), the prompt, the answer, EOS if asked for.
///
/// If either is given as messages, the conversation goes through the chat template as a whole (a prompt string becomes a
/// user's message, an empty one none; an answer string becomes an assistant's message) and the answer's assistant turns
/// are found in what the template wrote. A turn starts where the template, asked for an answer to the messages before it,
/// stops (where it writes no header, with the content), and ends with the first control token behind its content, or, in
/// templates without control tokens, where the template stops after that turn. A token that straddles a border counts as
/// the answer's. Nothing is appended, and special tokens are only those that the template writes.
///
/// # Errors
/// [`TextError::EmptyAnswer`], [`TextError::NoAssistantTurn`], [`TextError::TemplateUnstable`], [`TextError::TooLong`],
/// [`TextError::NoAnswerLeft`] for a row in which no answer token follows another token, and what
/// [`TextTokenizer::encode`] and [`TextTokenizer::render_chat`] give.
pub fn encode_answer(
    tok: &TextTokenizer,
    prompt: &Content,
    answer: &Content,
    opts: &EncodeOptions,
) -> Result<EncodedAnswer, TextError> {
    let row = match (prompt, answer) {
        (Content::Text(prompt), Content::Text(answer)) => {
            strings(tok, prompt, answer, opts.append_eos)?
        }
        _ => {
            let before = as_messages(prompt, "user");
            let after = as_messages(answer, "assistant");
            chat(tok, &before, &after)?
        }
    };
    truncate(tok, row, opts)
}

fn as_messages(content: &Content, role: &str) -> Vec<Message> {
    match content {
        Content::Messages(messages) => messages.clone(),
        Content::Text(text) if text.is_empty() => Vec::new(),
        Content::Text(text) => vec![Message {
            role: role.into(),
            content: text.clone(),
        }],
    }
}

fn strings(
    tok: &TextTokenizer,
    prompt: &str,
    answer: &str,
    append_eos: bool,
) -> Result<Row, TextError> {
    if answer.is_empty() {
        return Err(TextError::EmptyAnswer);
    }
    let Marked {
        encoding: mut before,
        trailing,
    } = tok.encode_marked(prompt, true)?;
    // An EOS of the tokenizer's own belongs behind the answer, not between prompt and answer.
    before
        .ids
        .truncate(before.ids.len().saturating_sub(trailing));
    let after = tok.encode(answer, false)?;
    if after.ids.is_empty() {
        return Err(TextError::EmptyAnswer);
    }
    let start = before.ids.len();
    let mut ids = before.ids;
    let mut offsets = vec![None; start];
    ids.extend(after.ids);
    offsets.extend(after.offsets.into_iter().map(Some));
    if let Some(eos) = tok.eos().filter(|_| append_eos) {
        ids.push(eos);
        offsets.push(None);
    }
    let resp = (0..ids.len()).map(|i| i >= start).collect();
    let last = (start, ids.len());
    Ok(Row {
        ids,
        resp,
        offsets,
        answer_text: answer.to_owned(),
        last,
    })
}

/// An assistant turn in the rendered conversation, in bytes.
struct Turn {
    start: usize,
    /// Where its content stands, if it stands there as it was given.
    content: Option<Written>,
    /// Where the template stops after this turn.
    end: usize,
}

/// A message's content in the rendered conversation, in bytes.
struct Written {
    start: usize,
    end: usize,
    /// Spaces (code points) at the content's start that the template left out.
    cut: usize,
}

fn chat(tok: &TextTokenizer, prompt: &[Message], answer: &[Message]) -> Result<Row, TextError> {
    let messages: Vec<Message> = prompt.iter().chain(answer).cloned().collect();
    let assistant: Vec<usize> = (prompt.len()..messages.len())
        .filter(|i| messages.get(*i).is_some_and(|m| m.role == "assistant"))
        .collect();
    let Some(displayed) = assistant.last().and_then(|i| messages.get(*i)) else {
        // An empty answer string has become no message at all.
        return Err(match answer.len() {
            0 => TextError::EmptyAnswer,
            messages => TextError::NoAssistantTurn { messages },
        });
    };
    if displayed.content.trim().is_empty() {
        return Err(TextError::EmptyAnswer);
    }
    let text = tok.render_chat(&messages, false)?;
    let turns = find_turns(tok, &text, &messages, &assistant)?;

    let encoding = tok.encode(&text, false)?;
    // Token borders in bytes, to be compared with the turns'.
    let bytes: Vec<usize> = text
        .char_indices()
        .map(|(b, _)| b)
        .chain([text.len()])
        .collect();
    let byte = |character: usize| bytes.get(character).copied().unwrap_or(text.len());
    let spans: Vec<(usize, usize)> = encoding
        .offsets
        .iter()
        .map(|&(a, b)| (byte(a), byte(b)))
        .collect();

    let mut resp = vec![false; encoding.ids.len()];
    let mut offsets = vec![None; encoding.ids.len()];
    let mut last = (0, 0);
    let mut answer_text = displayed.content.clone();
    for turn in &turns {
        let (_, end) = turn_end(tok, &encoding.ids, &spans, turn);
        // A token without characters (a space put in front of the turn) is inside when its place is.
        let inside = |&(a, b): &(usize, usize)| {
            if a == b {
                turn.start <= a && a < end
            } else {
                a < end && turn.start < b
            }
        };
        let Some(first) = spans.iter().position(inside) else {
            continue;
        };
        let count = spans.iter().skip(first).take_while(|s| inside(s)).count();
        resp.iter_mut()
            .skip(first)
            .take(count)
            .for_each(|r| *r = true);
        last = (first, first + count);
    }
    if let Some(turn) = turns.last() {
        let (from, to, cut) = match &turn.content {
            Some(content) => (content.start, content.end, content.cut),
            None => {
                let (to, _) = turn_end(tok, &encoding.ids, &spans, turn);
                answer_text = text.get(turn.start..to).unwrap_or_default().to_owned();
                (turn.start, to, 0)
            }
        };
        let (from, to) = (characters(&text, from), characters(&text, to));
        for i in last.0..last.1 {
            let (Some(&(a, b)), Some(slot)) = (encoding.offsets.get(i), offsets.get_mut(i)) else {
                continue;
            };
            let (a, b, empty) = (a.max(from), b.min(to), a == b);
            if a < b || (empty && a == b && from <= a && a < to) {
                *slot = Some((a - from + cut, b - from + cut));
            }
        }
    }
    Ok(Row {
        ids: encoding.ids,
        resp,
        offsets,
        answer_text,
        last,
    })
}

/// Code points before byte `b`.
fn characters(text: &str, b: usize) -> usize {
    text.get(..b).map_or(0, |t| t.chars().count())
}

/// Finds the turns of the messages `assistant` by rendering the conversation up to each border and checking that the
/// whole text begins with that.
fn find_turns(
    tok: &TextTokenizer,
    text: &str,
    messages: &[Message],
    assistant: &[usize],
) -> Result<Vec<Turn>, TextError> {
    let prefix = |count: usize, prompt: bool| -> Option<usize> {
        // Some templates refuse a part of a conversation that they take as a whole: then this border is not known.
        let part = tok.render_chat(messages.get(..count)?, prompt).ok()?;
        text.starts_with(&part).then_some(part.len())
    };
    let mut turns: Vec<Turn> = Vec::with_capacity(assistant.len());
    let mut from = 0;
    for &i in assistant {
        let unstable = TextError::TemplateUnstable { turn: i + 1 };
        let before = prefix(i, false).filter(|b| *b >= from);
        let header = prefix(i, true).filter(|h| *h >= from && before.is_none_or(|b| *h > b));
        let content = find_content(tok, text, messages, i)?.filter(|c| c.start >= from);
        // Without a generation prompt the turn's header is not told apart from its content, unless the content is seen.
        let start = header
            .or(content.as_ref().map(|c| c.start))
            .ok_or_else(|| unstable.clone())?;
        // A template that rewrites earlier turns still writes the same behind their content.
        let behind = || -> Option<usize> {
            let content = content.as_ref()?;
            let tail = with_stand_in(tok, text, messages.get(..=i)?, i).ok()?.1?;
            text.get(content.end..)?
                .starts_with(&tail)
                .then_some(content.end + tail.len())
        };
        let end = prefix(i + 1, false)
            .filter(|end| *end >= start)
            .or_else(behind)
            .ok_or(unstable)?;
        from = end;
        turns.push(Turn {
            start,
            content,
            end,
        });
    }
    Ok(turns)
}

/// Where the template wrote the content of `messages[i]`, as given or with the spaces around it cut off: the place at
/// which the text stops being the same once that content is another one.
fn find_content(
    tok: &TextTokenizer,
    text: &str,
    messages: &[Message],
    i: usize,
) -> Result<Option<Written>, TextError> {
    let Some(content) = messages.get(i).map(|m| m.content.as_str()) else {
        return Ok(None);
    };
    let (head, _) = with_stand_in(tok, text, messages, i)?;
    let Some((head, tail)) = head.and_then(|head| Some((head.len(), text.strip_prefix(&*head)?)))
    else {
        return Ok(None);
    };
    let cut = content.chars().take_while(|c| c.is_whitespace()).count();
    let forms = [
        (content, 0),
        (content.trim_end(), 0),
        (content.trim_start(), cut),
        (content.trim(), cut),
    ];
    let found = forms.into_iter().find(|(form, _)| tail.starts_with(form));
    Ok(found.map(|(form, cut)| Written {
        start: head,
        end: head + form.len(),
        cut,
    }))
}

/// What the template writes before and behind the content of `messages[i]`, seen by rendering a content that stands
/// nowhere else. `None` where it writes no content at all.
fn with_stand_in(
    tok: &TextTokenizer,
    text: &str,
    messages: &[Message],
    i: usize,
) -> Result<(Option<String>, Option<String>), TextError> {
    let mut stand_in = "\u{e0f1}".to_owned();
    while text.contains(&stand_in) {
        stand_in.push('\u{e0f1}');
    }
    let mut changed = messages.to_vec();
    if let Some(message) = changed.get_mut(i) {
        message.content.clone_from(&stand_in);
    }
    let changed = tok.render_chat(&changed, false)?;
    let parts = changed.split_once(&stand_in);
    Ok(parts
        .map(|(head, tail)| (head.to_owned(), tail.to_owned()))
        .unzip())
}

/// Where the turn's text stops and where its last token ends: at the first control token behind the content, else where
/// the template stops.
fn turn_end(
    tok: &TextTokenizer,
    ids: &[u32],
    spans: &[(usize, usize)],
    turn: &Turn,
) -> (usize, usize) {
    let behind = turn.content.as_ref().map_or(turn.start, |c| c.end);
    ids.iter()
        .zip(spans)
        .find(|(id, (a, b))| *a >= behind && a < b && *b <= turn.end && tok.is_special(**id))
        .map_or((turn.end, turn.end), |(_, span)| *span)
}

fn truncate(
    tok: &TextTokenizer,
    mut row: Row,
    opts: &EncodeOptions,
) -> Result<EncodedAnswer, TextError> {
    let length = row.ids.len();
    let max_length = opts.max_length;
    if length > max_length {
        let kept = match opts.truncation {
            Truncation::Error => return Err(TextError::TooLong { length, max_length }),
            Truncation::KeepStart => 0..max_length,
            Truncation::KeepEnd => {
                let (start, end) = row.last;
                let front = usize::from(
                    start > 0 && tok.bos().is_some() && row.ids.first().copied() == tok.bos(),
                );
                let dropped = end
                    .saturating_sub(max_length)
                    .min(start.saturating_sub(front));
                row.drop(front..front + dropped);
                0..max_length.min(end - dropped)
            }
        };
        row.drop(kept.end..row.ids.len());
    }
    if !row.resp.iter().skip(1).any(|r| *r) {
        return Err(TextError::NoAnswerLeft { length, max_length });
    }
    Ok(EncodedAnswer {
        truncated: row.ids.len() < length,
        ids: row.ids,
        resp: row.resp,
        offsets: row.offsets,
        answer_text: row.answer_text,
    })
}

impl Row {
    /// Removes tokens; the range lies within the row.
    fn drop(&mut self, range: std::ops::Range<usize>) {
        self.ids.drain(range.clone());
        self.resp.drain(range.clone());
        self.offsets.drain(range);
    }
}
