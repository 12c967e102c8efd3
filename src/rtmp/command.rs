//! Commands (RTMP 1.0 §7.2): read from checked messages, and the answers a server gives.

use super::amf::{self, AmfError};
use super::chunk::{ChunkWriter, kind};
use rml_rtmp::rml_amf0::Amf0Value;

/// A command or an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Command {
    pub(super) name: String,
    /// 0: no answer is wanted.
    pub(super) transaction: f64,
    pub(super) object: Amf0Value,
    pub(super) arguments: Vec<Amf0Value>,
}

impl Command {
    /// Parses the payload of a command message of either type.
    pub(super) fn parse(message_kind: u8, data: &[u8]) -> Result<Self, AmfError> {
        // A command of type 17 is AMF0 in practice, behind one byte of zero.
        let data = match data {
            [0, rest @ ..] if message_kind == kind::COMMAND_AMF3 => rest,
            data => data,
        };
        let mut values = amf::parse(data)?.into_iter();
        let (Some(Amf0Value::Utf8String(name)), Some(Amf0Value::Number(transaction))) =
            (values.next(), values.next())
        else {
            return Err(AmfError::Malformed);
        };
        let object = values.next().unwrap_or(Amf0Value::Null);
        Ok(Self { name, transaction, object, arguments: values.collect() })
    }

    /// A text argument.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        match self.arguments.get(index) {
            Some(Amf0Value::Utf8String(text)) => Some(text),
            _ => None,
        }
    }

    /// A text property of the command object, or of the first argument that is an object.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        match self.find(name) {
            Some(Amf0Value::Utf8String(text)) => Some(text),
            _ => None,
        }
    }

    /// The same for a number.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.find(name) {
            Some(Amf0Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn find(&self, name: &str) -> Option<&Amf0Value> {
        let mut values = std::iter::once(&self.object).chain(&self.arguments);
        values.find_map(|value| match value {
            Amf0Value::Object(properties) => properties.get(name),
            _ => None,
        })
    }
}

/// Appends a command message on message stream `stream`.
pub(super) fn write(
    writer: &mut ChunkWriter,
    stream: u32,
    name: &str,
    transaction: f64,
    arguments: impl IntoIterator<Item = Amf0Value>,
) {
    let mut values = vec![amf::text(name), Amf0Value::Number(transaction)];
    values.extend(arguments);
    writer.write(3, kind::COMMAND, stream, 0, &[&amf::serialize(&values)]);
}

/// Appends an `onStatus` (§7.2.2).
pub(super) fn write_status(
    writer: &mut ChunkWriter,
    stream: u32,
    level: &str,
    code: &str,
    description: &str,
) {
    let information = amf::object([
        ("level", amf::text(level)),
        ("code", amf::text(code)),
        ("description", amf::text(description)),
    ]);
    write(writer, stream, "onStatus", 0.0, [Amf0Value::Null, information]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amf3_commands_have_a_zero_in_front() {
        let values =
            [amf::text("connect"), Amf0Value::Number(1.0), amf::object([("app", amf::text("live"))])];
        let plain = amf::serialize(&values);
        let shifted = [&[0], &plain[..]].concat();
        let command = Command::parse(kind::COMMAND_AMF3, &shifted).expect("valid");
        assert_eq!(command, Command::parse(kind::COMMAND, &plain).expect("valid"));
        assert_eq!(command.property("app"), Some("live"));
    }

    #[test]
    fn a_command_of_one_value_is_an_error() {
        assert_eq!(Command::parse(kind::COMMAND, &[5]), Err(AmfError::Malformed));
        assert_eq!(Command::parse(kind::COMMAND, &[]), Err(AmfError::Malformed));
        assert_eq!(
            Command::parse(kind::COMMAND, &amf::serialize(&[amf::text("x")])),
            Err(AmfError::Malformed)
        );
    }
}
