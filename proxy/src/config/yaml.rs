//! YAML with line numbers and the text as it stands.
//!
//! This reads the events of the parser beneath `serde-saphyr` instead of deserialising: settings are read by their kind from their own
//! text (`off` stays `off`, `1.20` stays `1.20`), every key keeps its line, and a duplicate key is a mistake among others, not the end.

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

/// A value and the line that it starts on.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Yaml,
}

/// The three shapes of YAML, and nothing at all.
#[derive(Debug)]
pub(super) enum Yaml {
    /// `key:` with nothing behind it, or `~`, `null`.
    Nothing,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value; duplicates are kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// A line and what is wrong on it.
pub(super) type Problem = (usize, String);

/// Nothing of ours is deeper than a list of maps of texts.
const MAX_DEPTH: usize = 8;

/// Reads the one document of a file.
///
/// # Errors
/// The first place that is not YAML, or that uses what a configuration has no need for: aliases, tags, several documents.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut options = Options::default();
    options.emit_comments = false;
    options.block_nesting_limit = 16;
    options.flow_nesting_limit = 16;
    let mut reader = Reader { events: Parser::new_from_str_with_options(text, options), line: 1 };
    let mut root = None;
    while let Some(event) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_none() => {}
            Event::DocumentStart(..) => return Err((reader.line, "starts a second document; put everything into one".to_owned())),
            first => root = Some(reader.node(first, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { line: 1, value: Yaml::Nothing }))
}

struct Reader<'a, E: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> {
    events: E,
    /// Of the last event.
    line: usize,
}

impl<'a, E: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<'a, E> {
    fn next(&mut self) -> Result<Option<Event<'a>>, Problem> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(Some(event))
            }
            Some(Err(error)) => {
                Err((error.marker().line(), format!("is not YAML: {}; check the indentation and quotes there", error.info())))
            }
        }
    }

    fn inside(&mut self) -> Result<Event<'a>, Problem> {
        let line = self.line;
        self.next()?.ok_or_else(|| (line, "ends in the middle; the file is cut".to_owned()))
    }

    fn node(&mut self, first: Event<'a>, depth: usize) -> Result<Node, Problem> {
        let line = self.line;
        if depth > MAX_DEPTH {
            return Err((line, "is nested too deeply; settings are one or two levels deep".to_owned()));
        }
        let value = match first {
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, _, Some(_)) | Event::MappingStart(_, _, Some(_)) => {
                return Err((line, "has a tag (!), which is not used here; remove it".to_owned()));
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null") => Yaml::Nothing,
            Event::Scalar(text, ..) => Yaml::Text(text.into_owned()),
            Event::SequenceStart(..) => Yaml::List(self.list(depth)?),
            Event::MappingStart(..) => Yaml::Map(self.map(depth)?),
            Event::Alias(_) => {
                return Err((line, "is an alias (*), which is not used here; put common settings at the top level".to_owned()));
            }
            _ => return Err((line, "is not understood; use plain keys, values and lists".to_owned())),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut list = Vec::new();
        loop {
            match self.inside()? {
                Event::SequenceEnd => return Ok(list),
                item => list.push(self.node(item, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries = Vec::new();
        loop {
            let key = match self.inside()? {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err((self.line, "has a key that is not a word; write `key: value`".to_owned())),
            };
            let line = self.line;
            let first = self.inside()?;
            let mut value = self.node(first, depth + 1)?;
            if matches!(value.value, Yaml::Nothing) {
                value.line = line; // an absent value is reported where its key stands
            }
            entries.push(Entry { key, line, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_lines_duplicates_and_the_text_as_it_stands() {
        let root = parse("# comment\na: off\nb:\n  - c: 1.20 # here\n    c: \"2\"\nd:\n").unwrap();
        let Yaml::Map(entries) = root.value else { panic!() };
        assert!(matches!(&entries[0], Entry { line: 2, value: Node { value: Yaml::Text(text), .. }, .. } if text == "off"));
        let Yaml::List(items) = &entries[1].value.value else { panic!() };
        let Yaml::Map(inner) = &items[0].value else { panic!() };
        assert_eq!(inner.iter().map(|entry| (entry.key.as_str(), entry.line)).collect::<Vec<_>>(), [("c", 4), ("c", 5)]);
        assert!(matches!(&inner[0].value.value, Yaml::Text(text) if text == "1.20"));
        assert!(matches!(entries[2], Entry { line: 6, value: Node { line: 6, value: Yaml::Nothing }, .. }));
    }

    #[test]
    fn refuses_what_a_configuration_has_no_need_for() {
        for (text, line, part) in [
            ("a: &x 1\nb: *x\n", 2, "alias"),
            ("a: !!str 1\n", 1, "tag"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("a: [1, 2\n", 1, "not YAML"),
            ("a: 1\n  b: 2\n", 2, "not YAML"),
            ("[a]: 1\n", 1, "not a word"),
            ("a: [[[[[[[[[[1]]]]]]]]]]\n", 1, "too deeply"),
        ] {
            let (at, why) = parse(text).unwrap_err();
            assert!(at == line && why.contains(part), "{text:?}: {at}: {why}");
        }
        assert!(matches!(parse("").unwrap().value, Yaml::Nothing));
        assert!(parse(&"[".repeat(10_000)).is_err());
    }
}
