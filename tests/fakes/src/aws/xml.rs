//! The little XML that the query protocol needs.

/// The namespace of every answer of STS.
///
/// Source: `xmlNamespace` in the service model of STS, 2011-06-15.
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// An element with a text.
pub(super) fn text(name: &str, content: &str) -> String {
    let mut escaped = String::with_capacity(content.len());
    for character in content.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // What XML 1.0 cannot carry in any form.
            '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    format!("<{name}>{escaped}</{name}>")
}

/// An element with others in it.
pub(super) fn nested(name: &str, children: &[String]) -> String {
    format!("<{name}>{}</{name}>", children.concat())
}

/// The outermost element of an answer.
pub(super) fn document(name: &str, children: &[String]) -> String {
    format!("<{name} xmlns=\"{NAMESPACE}\">{}</{name}>\n", children.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_texts_is_escaped() {
        assert_eq!(text("A", "<b>&\"\u{1}"), "<A>&lt;b&gt;&amp;&quot;\u{fffd}</A>");
        assert_eq!(nested("A", &[text("B", ""), text("C", "1")]), "<A><B></B><C>1</C></A>");
    }
}
