//! S3's documents as trees: what is not understood in them is kept, so that it can be sent back.

use std::fmt::{self, Write};

use xmlparser::{ElementEnd, Token, Tokenizer};

/// No answer of S3 nests deeper than five.
const DEPTH: usize = 32;

/// One element. Attributes are dropped: those of S3 say nothing but the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) children: Vec<Self>,
}

impl Element {
    pub(super) fn new(name: &str, children: Vec<Self>) -> Self {
        Self { name: name.to_owned(), text: String::new(), children }
    }

    pub(super) fn leaf(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), text: text.into(), children: Vec::new() }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut open, mut root) = (Vec::<Self>::new(), None);
        for token in Tokenizer::from(text) {
            match token.map_err(|error| format!("it is not XML ({error})"))? {
                Token::ElementStart { local, .. } if open.len() < DEPTH => open.push(Self::leaf(local.as_str(), "")),
                Token::ElementStart { .. } => return Err("it nests too deep".to_owned()),
                Token::ElementEnd { end: ElementEnd::Close(..) | ElementEnd::Empty, .. } => {
                    let Some(mut done) = open.pop() else { return Err("it ends twice".to_owned()) };
                    if !done.children.is_empty() {
                        // White space for people.
                        done.text.clear();
                    }
                    match open.last_mut() {
                        Some(parent) => parent.children.push(done),
                        None => root = Some(done),
                    }
                }
                Token::Text { text } => {
                    if let Some(element) = open.last_mut() {
                        unescape(text.as_str(), &mut element.text)?;
                    }
                }
                Token::Cdata { text, .. } => open.last_mut().into_iter().for_each(|element| element.text.push_str(text.as_str())),
                _ => {}
            }
        }
        if open.is_empty() { root.ok_or_else(|| "it is empty".to_owned()) } else { Err("it ends too early".to_owned()) }
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.text_of(name) == Some("true")
    }
}

/// As a document in S3's namespace without a declaration.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.name)?;
        for c in self.text.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                // Readers would make a line feed of it.
                '\r' => f.write_str("&#13;")?,
                c => f.write_char(c)?,
            }
        }
        self.children.iter().try_for_each(|child| child.fmt(f))?;
        write!(f, "</{}>", self.name)
    }
}

/// True when XML has a way to write it.
pub(super) fn can_carry(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..))
}

fn unescape(text: &str, into: &mut String) -> Result<(), String> {
    let mut rest = text;
    while let Some((plain, entity)) = rest.split_once('&') {
        let (name, after) = entity.split_once(';').ok_or("it has a bare `&`")?;
        into.push_str(plain);
        into.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let code = name.strip_prefix('#').and_then(|code| match code.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => code.parse().ok(),
                });
                code.and_then(char::from_u32).ok_or("it has an entity that nobody knows")?
            }
        });
        rest = after;
    }
    into.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gateways_answer_is_a_tree() {
        let text =
            "<?xml version=\"1.0\"?><!-- x --><a xmlns=\"http://n/\"><b>1 &lt; 2 &#x41;&#66;</b>\n <b/><c:d><![CDATA[<&>]]></c:d></a>";
        let tree = Element::parse(text).unwrap();
        assert_eq!(tree.all("b").map(|b| b.text.as_str()).collect::<Vec<_>>(), ["1 < 2 AB", ""]);
        assert_eq!(tree.text_of("d"), Some("<&>"));
        assert_eq!(tree.text, "");
    }

    #[test]
    fn what_is_no_document_is_an_error() {
        for bad in ["", "x", "<a>", "<a></a></a>", "<a>&nope;</a>", "<a>&</a>", "<a>&#xD800;</a>", "<html><br></html>", &"<a>".repeat(99)] {
            assert!(Element::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_comes_back(text in any::<String>().prop_filter("not XML's", |text| can_carry(text))) {
            let written = Element::new("r", vec![Element::leaf("t", &text)]).to_string();
            let read = Element::parse(&written).unwrap();
            prop_assert_eq!(read.text_of("t"), Some(&*text));
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = Element::parse(&text);
        }
    }
}
