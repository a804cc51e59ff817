//! [`Input::to_json`]: a value on its way in, as the text that says it again.

use crate::input::{Input, Node};
use crate::json::write_key;
use crate::leaf::{Leaf, write_json};
use crate::transform::Transform;

impl Input {
    /// The JSON text that reads as this value, transforms included; for whoever hands a commit on
    /// to another node.
    ///
    /// ```
    /// use trellis_tree::Input;
    ///
    /// let text = br#"{"name":"Alice","seen":{".sv":"timestamp"},"..sv":{".bytes":"AA=="}}"#;
    /// let value = Input::parse(text)?;
    /// assert_eq!(Input::parse(&value.to_json())?, value);
    /// # Ok::<(), trellis_engine_traits::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        node(&self.0, &mut out);
        out
    }
}

fn node(value: &Node, out: &mut Vec<u8>) {
    match value {
        Node::Null => out.extend_from_slice(b"null"),
        Node::Leaf(value) => leaf(value, out),
        Node::Object(members) => {
            out.push(b'{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                // A name is UTF-8: there is nothing to refuse.
                let _written = write_key(name.as_bytes(), out);
                out.push(b':');
                node(value, out);
            }
            out.push(b'}');
        }
        Node::Transform(wanted) => transform(wanted, out),
    }
}

fn leaf(value: &Leaf, out: &mut Vec<u8>) {
    // What was just encoded decodes.
    let _written = write_json(&value.encode(), out);
}

fn transform(wanted: &Transform, out: &mut Vec<u8>) {
    let items = |items: &[String]| format!("[{}]", items.join(",")).into_bytes();
    let argument = |value: &Leaf| {
        let mut text = Vec::new();
        leaf(value, &mut text);
        text
    };
    let (name, argument) = match wanted {
        Transform::Timestamp => return out.extend_from_slice(br#"{".sv":"timestamp"}"#),
        Transform::PushId => return out.extend_from_slice(br#"{".sv":"pushId"}"#),
        Transform::Toggle => return out.extend_from_slice(br#"{".sv":"toggle"}"#),
        Transform::Increment(by) => ("increment", argument(by)),
        Transform::Min(bound) => ("min", argument(bound)),
        Transform::Max(bound) => ("max", argument(bound)),
        Transform::Multiply(by) => ("multiply", argument(by)),
        Transform::SetIfAbsent(value) => ("setIfAbsent", argument(value)),
        Transform::Append(added) => ("append", items(added)),
        Transform::Union(added) => ("union", items(added)),
        Transform::Remove(gone) => ("remove", items(gone)),
    };
    out.extend_from_slice(br#"{".sv":{""#);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(br#"":"#);
    out.extend_from_slice(&argument);
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_can_be_written_reads_back_as_the_same() {
        for text in [
            "null",
            "{}",
            "[]",
            r#"[1,{"a":[null,2.5,"x"]}]"#,
            "-9007199254740993",
            "1e300",
            r#"{"a":{"b":1,"c d":"\u0000\"\\ \u00e9"},"..bytes":2,"...sv":3}"#,
            r#"{".bytes":"/+8="}"#,
            r#"{".sv":"timestamp"}"#,
            r#"{".sv":"pushId"}"#,
            r#"{".sv":"toggle"}"#,
            r#"{"n":{".sv":{"increment":-2}},"m":{".sv":{"min":1.5}}}"#,
            r#"{"n":{".sv":{"max":3}},"m":{".sv":{"multiply":1.5}}}"#,
            r#"{"n":{".sv":{"append":[1,"x",[2]]}},"m":{".sv":{"union":"y"}}}"#,
            r#"{"n":{".sv":{"remove":[1,2]}},"m":{".sv":{"setIfAbsent":{".bytes":"AA=="}}}}"#,
            r#"{"m":{".sv":{"setIfAbsent":{}}}}"#,
        ] {
            let value = Input::parse(text.as_bytes()).unwrap();
            assert_eq!(Input::parse(&value.to_json()).unwrap(), value, "{text}");
        }
    }
}
