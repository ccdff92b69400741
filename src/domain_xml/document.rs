//! An XML text and where its elements are in it. It is never written out again: edits are spliced
//! into the text at these positions.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::XmlVersion;
use quick_xml::events::attributes::AttrError;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::QName;
use quick_xml::reader::Reader;

/// The namespace of our metadata. libvirt keeps one top-level element of it in a domain.
pub const NAMESPACE: &str = "urn:hybrid-hook:domain:1";

/// Which namespace an element is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// None: libvirt's own elements.
    Plain,
    /// [`NAMESPACE`].
    Ours,
    /// Somebody else's.
    Foreign,
}

/// An element, by positions in bytes within the document's text.
#[derive(Debug, Clone)]
pub(super) struct Element {
    /// Its name with the prefix.
    pub(super) name: Range<usize>,
    pub(super) space: Space,
    /// The start tag, or the whole element where it closes itself.
    pub(super) start: Range<usize>,
    /// The end tag; `None` where it closes itself.
    pub(super) end: Option<Range<usize>>,
    pub(super) first_child: Option<usize>,
    pub(super) next: Option<usize>,
}

impl Element {
    /// From its first byte to behind its last.
    pub(super) fn span(&self) -> Range<usize> {
        self.start.start..self.end.as_ref().map_or(self.start.end, |end| end.end)
    }

    /// What is between its tags; empty where it closes itself.
    pub(super) fn content(&self) -> Range<usize> {
        self.start.end..self.end.as_ref().map_or(self.start.end, |end| end.start)
    }
}

/// An attribute as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    /// Its value, references resolved and line ends normalised (XML 1.0, section 3.3.3).
    pub(super) value: Cow<'a, str>,
    /// From the name's first byte to behind the closing quote.
    pub(super) span: Range<usize>,
    /// What is between the quotes.
    pub(super) raw: Range<usize>,
}

/// A well-formed document that has a domain in it. Made by [`super::parse`].
#[derive(Debug)]
pub(super) struct Document<'a> {
    /// The text without a byte order mark; positions count from here.
    pub(super) text: &'a str,
    /// All elements in the order of their start tags.
    pub(super) elements: Vec<Element>,
    /// The `<domain>`.
    pub(super) domain: Element,
}

impl<'a> Document<'a> {
    /// A part of the text; empty for a range that is none of this text.
    pub(super) fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// An element's name without the prefix.
    pub(super) fn local(&self, element: &Element) -> &'a str {
        let name = self.slice(element.name.clone());
        name.rsplit_once(':').map_or(name, |(_, local)| local)
    }

    /// An element's prefix with its colon, to put before a child's name; empty for none.
    pub(super) fn prefix(&self, element: &Element) -> &'a str {
        let name = self.slice(element.name.clone());
        name.find(':').and_then(|colon| name.get(..=colon)).unwrap_or_default()
    }

    /// The elements directly in an element.
    pub(super) fn children(&self, of: &Element) -> impl Iterator<Item = &Element> + use<'_, 'a> {
        let mut next = of.first_child;
        std::iter::from_fn(move || {
            let child = self.elements.get(next?)?;
            next = child.next;
            Some(child)
        })
    }

    /// Those of libvirt's elements directly in `of` that have this name.
    pub(super) fn named<'d>(
        &'d self,
        of: &Element,
        name: &'static str,
    ) -> impl Iterator<Item = &'d Element> + use<'d, 'a> {
        self.children(of).filter(move |e| e.space == Space::Plain && self.slice(e.name.clone()) == name)
    }

    /// The first of them.
    pub(super) fn child(&self, of: &Element, name: &'static str) -> Option<&Element> {
        self.named(of, name).next()
    }

    /// An element's attributes, in their order.
    pub(super) fn attributes(&self, of: &Element) -> Vec<Attribute<'a>> {
        // The parser has read them once without a fault.
        attributes(self.text, of.name.end, tag_end(self.text, &of.start)).unwrap_or_default()
    }

    /// An attribute by its whole name.
    pub(super) fn attribute(&self, of: &Element, name: &str) -> Option<Attribute<'a>> {
        self.attributes(of).into_iter().find(|a| a.name == name)
    }

    /// An attribute's value as text.
    pub(super) fn value(&self, of: &Element, name: &str) -> Option<String> {
        self.attribute(of, name).map(|a| a.value.into_owned())
    }

    /// All text in an element, references resolved: XPath's `string()`.
    pub(super) fn string(&self, of: &Element) -> String {
        let mut text = String::new();
        let mut reader = Reader::from_str(self.slice(of.content()));
        reader.config_mut().allow_unmatched_ends = true;
        loop {
            match reader.read_event() {
                Ok(Event::Text(part)) => text.push_str(&part.xml10_content()),
                Ok(Event::CData(part)) => text.push_str(&part.xml10_content()),
                Ok(Event::GeneralRef(name)) => match (name.resolve_char_ref(), &*name) {
                    (Ok(Some(c)), _) => text.push(c),
                    (_, name) => text.push_str(predefined(name).unwrap_or_default()),
                },
                Ok(Event::Eof) | Err(_) => return text,
                Ok(_) => {}
            }
        }
    }
}

/// The text of one of the five entities that need no declaration (XML 1.0, section 4.6).
pub(super) fn predefined(entity: &str) -> Option<&'static str> {
    quick_xml::escape::resolve_predefined_entity(entity)
}

/// Where the attributes of a start tag end: before `>` or `/>`.
pub(super) fn tag_end(text: &str, start: &Range<usize>) -> usize {
    let tag = text.get(start.clone()).unwrap_or_default();
    start.end.saturating_sub(if tag.ends_with("/>") { 2 } else { 1 })
}

/// Reads the attributes between `from`, the end of the element's name, and `to`.
///
/// An error says why in words that follow the position.
pub(super) fn attributes(text: &str, from: usize, to: usize) -> Result<Vec<Attribute<'_>>, (usize, String)> {
    let part = text.get(from..to).unwrap_or_default();
    let place = |inner: &str| (inner.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let tag = BytesStart::from_content(part, 0);
    let mut list = Vec::new();
    let mut last = from;
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|e| attribute_fault(from, &e))?;
        let Cow::Borrowed(raw) = attribute.value else {
            return Err((from, "has an attribute that is not in the text".to_owned()));
        };
        let (start, value) = (place(attribute.key.0), place(raw));
        let name = text.get(start..start + attribute.key.0.len()).unwrap_or_default();
        if !text.get(last..start).is_some_and(|gap| gap.starts_with([' ', '\t', '\r', '\n'])) {
            return Err((start, "an attribute has no space before it".to_owned()));
        }
        let raw = value..value + raw.len();
        let parsed = quick_xml::events::attributes::Attribute {
            key: QName(name),
            value: Cow::Borrowed(text.get(raw.clone()).unwrap_or_default()),
        };
        let normalised = parsed
            .normalized_value(XmlVersion::Explicit1_0)
            .map_err(|_| (value, format!("attribute {name} holds & without a known reference")))?;
        last = raw.end + 1;
        list.push(Attribute { name, value: normalised, span: start..last, raw });
    }
    Ok(list)
}

/// An attribute's fault in the words of the rest, at its place in the text.
fn attribute_fault(from: usize, error: &AttrError) -> (usize, String) {
    let (at, why) = match error {
        AttrError::ExpectedEq(at) => (*at, "an attribute has no value".to_owned()),
        AttrError::ExpectedValue(at) => (*at, "an attribute has no value".to_owned()),
        AttrError::UnquotedValue(at) => (*at, "an attribute's value has no quotes".to_owned()),
        AttrError::ExpectedQuote(at, _) => (*at, "an attribute's value has no closing quote".to_owned()),
        AttrError::Duplicated(at, _) => (*at, "an attribute is there twice".to_owned()),
    };
    (from + at, why)
}
