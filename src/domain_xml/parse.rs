//! From bytes to a [`Document`], or a refusal. quick-xml accepts unclosed elements, two roots, unknown
//! entities and odd names, so what XML 1.0 says about those is checked here.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::events::Event;
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use super::document::{Document, Element, NAMESPACE, Space, attributes, predefined, tag_end};
use super::grammar::{is_name, is_qualified_name, is_space, is_xml_char};
use crate::model::Fault;

/// The largest XML that is read, in bytes. libvirt's own limit on RPC strings is 4 MiB.
pub const SIZE_LIMIT: usize = 8 << 20;

/// How many elements may be inside one another. libxml2's own limit is 256.
pub const DEPTH_LIMIT: usize = 256;

/// How many elements are taken: a domain has some hundred, and each costs memory.
const ELEMENT_LIMIT: usize = 100_000;

/// How many attributes an element may have.
const ATTRIBUTE_LIMIT: usize = 256;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why an XML can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlFault {
    /// Nothing was given.
    #[error("the domain XML is empty")]
    Empty,
    /// Larger than [`SIZE_LIMIT`].
    #[error("the domain XML is too large: {size} bytes, at most {SIZE_LIMIT} are read")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Another encoding, or none.
    #[error("the domain XML is not UTF-8 (byte {at})")]
    NotUtf8 {
        /// The first bad byte, from 0.
        at: usize,
    },
    /// Not well-formed, or more than is taken.
    #[error("the domain XML can't be read (line {line}, column {column}): {why}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong there.
        why: String,
    },
    /// Well-formed, but something else.
    #[error("the XML is no libvirt domain: {why}")]
    NotADomain {
        /// What it is instead.
        why: String,
    },
}

impl From<XmlFault> for Fault {
    fn from(fault: XmlFault) -> Self {
        Self::failed(fault.to_string())
    }
}

/// The length of the byte order mark that a text begins with: 3 or 0.
pub(super) fn bom_length(xml: &[u8]) -> usize {
    if xml.starts_with(BOM) { BOM.len() } else { 0 }
}

/// Reads and checks a whole document, and finds the domain in it.
pub(super) fn parse(xml: &[u8]) -> Result<Document<'_>, XmlFault> {
    if xml.len() > SIZE_LIMIT {
        return Err(XmlFault::TooLarge { size: xml.len() });
    }
    let bom = bom_length(xml);
    let text = std::str::from_utf8(xml.get(bom..).unwrap_or_default())
        .map_err(|e| XmlFault::NotUtf8 { at: bom + e.valid_up_to() })?;
    if text.trim_ascii().is_empty() {
        return Err(XmlFault::Empty);
    }
    let (elements, root) = Builder::new(text).build().map_err(|(at, why)| malformed(text, at, why))?;
    domain_in(text, elements, &root)
}

fn malformed(text: &str, at: usize, why: String) -> XmlFault {
    let before = text.get(..at.min(text.len())).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    XmlFault::Malformed {
        line: before.bytes().filter(|b| *b == b'\n').count() + 1,
        column: before.get(line_start..).map_or(0, |l| l.chars().count()) + 1,
        why,
    }
}

/// The domain: the root, or what libvirt's status and snapshot files have it in.
fn domain_in<'a>(text: &'a str, elements: Vec<Element>, root: &Element) -> Result<Document<'a>, XmlFault> {
    let mut document = Document { text, elements, domain: root.clone() };
    let name = document.slice(root.name.clone());
    let not = |why: String| XmlFault::NotADomain { why };
    if root.space != Space::Plain {
        return Err(not(format!(
            "its root element <{}> is in a namespace, libvirt's is in none",
            short(name)
        )));
    }
    match name {
        "domain" => Ok(document),
        "domstatus" | "domainsnapshot" | "domainbackup" => {
            let inner: Vec<Element> = document.named(root, "domain").cloned().collect();
            match inner.as_slice() {
                [domain] => {
                    document.domain = domain.clone();
                    Ok(document)
                }
                _ => Err(not(format!("its <{name}> does not hold one <domain>"))),
            }
        }
        other => Err(not(format!("its root element is <{}>", short(other)))),
    }
}

/// A name for a message: one line, not long.
fn short(name: &str) -> String {
    name.chars().take(40).map(printable).collect()
}

type Bad = (usize, String);

/// An element whose end tag has not come yet.
struct Open {
    index: usize,
    last_child: Option<usize>,
}

struct Builder<'a> {
    text: &'a str,
    elements: Vec<Element>,
    open: Vec<Open>,
    root: Option<usize>,
    doctype: bool,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, elements: Vec::new(), open: Vec::new(), root: None, doctype: false }
    }

    /// All elements, and the root again.
    fn build(mut self) -> Result<(Vec<Element>, Element), Bad> {
        if let Some((at, c)) = self.text.char_indices().find(|(_, c)| !is_xml_char(*c)) {
            return Err((at, format!("the character {:?} is not allowed in XML", c)));
        }
        if self.text.starts_with('\u{feff}') {
            return Err((0, "there is text before the root element".to_owned()));
        }
        let mut reader = NsReader::from_str(self.text);
        reader.config_mut().enable_all_checks(true);
        loop {
            let from = position(reader.buffer_position());
            let (space, event) = match reader.read_resolved_event() {
                Ok((space, event)) => (space_of(&space), event),
                Err(e) => return Err((position(reader.error_position()), in_words(&e))),
            };
            let span = from..position(reader.buffer_position());
            match event {
                Event::Start(_) => self.element(space, span, false)?,
                Event::Empty(_) => self.element(space, span, true)?,
                Event::End(_) => self.end(&span),
                Event::Text(text) => self.character_data(from, &text)?,
                Event::GeneralRef(name) => {
                    let known = match name.resolve_char_ref() {
                        Ok(Some(c)) => is_xml_char(c),
                        Ok(None) => predefined(&name).is_some(),
                        Err(_) => false,
                    };
                    if !known {
                        return Err((from, format!("&{}; is no known reference", short(&name))));
                    }
                    self.inside(from)?;
                }
                Event::CData(_) => self.inside(from)?,
                Event::Comment(_) => {}
                Event::PI(instruction) => {
                    let target = instruction.target();
                    if !is_name(target) || target.eq_ignore_ascii_case("xml") {
                        return Err((from, "a processing instruction has no proper name".to_owned()));
                    }
                }
                Event::Decl(_) => check_declaration(self.text, &span)?,
                Event::DocType(_) => self.document_type(&span)?,
                Event::Eof => break,
            }
        }
        let end = self.text.len();
        if let Some(open) = self.open.last() {
            let name = self.elements.get(open.index).and_then(|e| self.text.get(e.name.clone()));
            return Err((end, format!("<{}> is not closed", short(name.unwrap_or_default()))));
        }
        match self.root.and_then(|root| self.elements.get(root)).cloned() {
            Some(root) => Ok((self.elements, root)),
            None => Err((end, "there is no element".to_owned())),
        }
    }

    fn element(&mut self, space: Space, span: Range<usize>, closed: bool) -> Result<(), Bad> {
        if self.open.is_empty() && self.root.is_some() {
            return Err((span.start, "there is a second root element".to_owned()));
        }
        if self.open.len() >= DEPTH_LIMIT {
            return Err((span.start, format!("elements are nested more than {DEPTH_LIMIT} deep")));
        }
        if self.elements.len() >= ELEMENT_LIMIT {
            return Err((span.start, format!("there are more than {ELEMENT_LIMIT} elements")));
        }
        let end = tag_end(self.text, &span);
        let from = span.start + 1;
        let tag = self.text.get(from..end).unwrap_or_default();
        let name = from..from + tag.find([' ', '\t', '\r', '\n']).unwrap_or(tag.len());
        let text = self.text.get(name.clone()).unwrap_or_default();
        if !is_qualified_name(text) {
            return Err((span.start, format!("<{}> is no name for an element", short(text))));
        }
        self.check_attributes(name.end, end)?;
        let index = self.elements.len();
        match self.open.last_mut() {
            None => self.root = Some(index),
            Some(parent) => {
                match parent.last_child {
                    Some(last) => self.elements.get_mut(last).map(|e| e.next = Some(index)),
                    None => self.elements.get_mut(parent.index).map(|e| e.first_child = Some(index)),
                };
                parent.last_child = Some(index);
            }
        }
        self.elements.push(Element { name, space, start: span, end: None, first_child: None, next: None });
        if !closed {
            self.open.push(Open { index, last_child: None });
        }
        Ok(())
    }

    fn check_attributes(&self, from: usize, to: usize) -> Result<(), Bad> {
        if from == to {
            return Ok(());
        }
        let list = attributes(self.text, from, to)?;
        if list.len() > ATTRIBUTE_LIMIT {
            return Err((from, format!("an element has more than {ATTRIBUTE_LIMIT} attributes")));
        }
        for a in &list {
            if !is_qualified_name(a.name) {
                return Err((a.span.start, format!("{:?} is no name for an attribute", short(a.name))));
            }
            if self.text.get(a.raw.clone()).is_some_and(|raw| raw.contains('<')) {
                return Err((a.raw.start, "an attribute's value holds <".to_owned()));
            }
            // Only a reference can bring one in that was not in the text.
            if matches!(a.value, Cow::Owned(_)) && !a.value.chars().all(is_xml_char) {
                return Err((a.raw.start, "an attribute refers to a character that XML lacks".to_owned()));
            }
        }
        Ok(())
    }

    /// quick-xml has checked that it is the end of the element opened last.
    fn end(&mut self, span: &Range<usize>) {
        if let Some(open) = self.open.pop()
            && let Some(element) = self.elements.get_mut(open.index)
        {
            element.end = Some(span.clone());
        }
    }

    fn character_data(&self, from: usize, text: &str) -> Result<(), Bad> {
        if text.contains("]]>") {
            return Err((from, "]]> stands outside of a CDATA section".to_owned()));
        }
        if text.bytes().all(is_space) { Ok(()) } else { self.inside(from) }
    }

    fn inside(&self, at: usize) -> Result<(), Bad> {
        match (self.open.is_empty(), self.root.is_some()) {
            (false, _) => Ok(()),
            (true, false) => Err((at, "there is text before the root element".to_owned())),
            (true, true) => Err((at, "there is text after the root element".to_owned())),
        }
    }

    /// A document type may be named, but nothing declared, here or in another file: entities are how
    /// a small text becomes a large one.
    fn document_type(&mut self, span: &Range<usize>) -> Result<(), Bad> {
        if self.doctype || self.root.is_some() {
            return Err((span.start, "a DOCTYPE stands where none may be".to_owned()));
        }
        let text = self.text.get(span.clone()).unwrap_or_default();
        let body = text.strip_prefix("<!DOCTYPE").and_then(|t| t.strip_suffix('>')).unwrap_or_default();
        let name = body.trim_matches([' ', '\t', '\r', '\n']);
        if !body.starts_with([' ', '\t', '\r', '\n']) || !is_qualified_name(name) {
            return Err((span.start, "a DOCTYPE with more than a name is not read".to_owned()));
        }
        self.doctype = true;
        Ok(())
    }
}

/// `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>`, the latter two if wanted, in this order
/// (XML 1.0, production 23).
fn check_declaration(text: &str, span: &Range<usize>) -> Result<(), Bad> {
    if span.start != 0 {
        return Err((span.start, "the XML declaration is not at the start".to_owned()));
    }
    let mut list =
        attributes(text, span.start + "<?xml".len(), span.end - "?>".len())?.into_iter().peekable();
    let mut next = |name| list.next_if(|a| a.name == name).map(|a| a.value);
    let digits = |v: &str| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit());
    if !next("version").is_some_and(|v| v.strip_prefix("1.").is_some_and(digits)) {
        return Err((0, "the XML declaration has no version 1".to_owned()));
    }
    let known = ["utf-8", "utf8", "us-ascii", "ascii"];
    if next("encoding").is_some_and(|e| !known.iter().any(|k| e.eq_ignore_ascii_case(k))) {
        return Err((0, "it is declared to be in another encoding than UTF-8".to_owned()));
    }
    if next("standalone").is_some_and(|s| s != "yes" && s != "no") || list.next().is_some() {
        return Err((0, "the XML declaration says something unknown".to_owned()));
    }
    Ok(())
}

fn space_of(result: &ResolveResult<'_>) -> Space {
    match result {
        ResolveResult::Unbound => Space::Plain,
        ResolveResult::Bound(uri) => match quick_xml::escape::unescape(uri.0) {
            Ok(uri) if uri == NAMESPACE => Space::Ours,
            _ => Space::Foreign,
        },
        // libvirt takes undeclared prefixes too; such an element is nobody's.
        ResolveResult::Unknown(_) => Space::Foreign,
    }
}

fn position(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// What quick-xml says, in one line and without its own class of error.
fn in_words(error: &quick_xml::Error) -> String {
    let text = match error {
        quick_xml::Error::IllFormed(e) => e.to_string(),
        quick_xml::Error::Syntax(e) => e.to_string(),
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).map(printable).collect()
}

/// XML takes U+0080 to U+009F, which a terminal may take for commands.
fn printable(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}
