//! Model files as trees of protobuf fields, whatever they say: nothing is checked, nothing is lost.

/// What a message of a model file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Model,
    Opset,
    Graph,
    Node,
    Attribute,
    Tensor,
    Info,
    Type,
    TensorType,
    Shape,
    Axis,
    Entry,
}

/// Fields of a message in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Numbers and values.
    pub fields: Vec<(u64, Value)>,
}

/// A field's value, as the wire has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A varint.
    Number(u64),
    /// Four bytes, such as a float.
    Four([u8; 4]),
    /// Eight bytes.
    Eight([u8; 8]),
    /// A string, packed numbers, or what is no message.
    Bytes(Vec<u8>),
    /// A message.
    Message(Message),
}

impl Message {
    /// A message of these fields.
    pub fn new<const N: usize>(kind: Kind, fields: [(u64, Value); N]) -> Self {
        Self { kind, fields: fields.into() }
    }

    /// Reads `bytes`; `None` if they are no message.
    pub fn parse(kind: Kind, mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let value = match tag % 8 {
                0 => Value::Number(varint(&mut bytes)?),
                1 => Value::Eight(bytes.split_off(..8)?.try_into().ok()?),
                2 => {
                    let len = usize::try_from(varint(&mut bytes)?).ok()?;
                    let content = bytes.split_off(..len)?;
                    let message =
                        child(kind, tag / 8).and_then(|kind| Message::parse(kind, content));
                    message.map_or_else(|| Value::Bytes(content.into()), Value::Message)
                }
                5 => Value::Four(bytes.split_off(..4)?.try_into().ok()?),
                _ => return None,
            };
            fields.push((tag / 8, value));
        }
        Some(Self { kind, fields })
    }

    /// The bytes of this message.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (field, value) in &self.fields {
            let (wire, content) = match value {
                Value::Number(number) => (0, encoded(*number)),
                Value::Eight(eight) => (1, eight.to_vec()),
                Value::Four(four) => (5, four.to_vec()),
                Value::Bytes(content) => (2, sized(content.clone())),
                Value::Message(message) => (2, sized(message.encode())),
            };
            bytes.extend(encoded(field * 8 + wire));
            bytes.extend(content);
        }
        bytes
    }

    /// All messages in it, itself first.
    pub fn visit(&mut self, f: &mut impl FnMut(&mut Message)) {
        f(self);
        for (_, value) in &mut self.fields {
            if let Value::Message(message) = value {
                message.visit(f);
            }
        }
    }

    /// The first value of a field.
    pub fn get(&self, field: u64) -> Option<&Value> {
        self.fields.iter().find(|(number, _)| *number == field).map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, field: u64) -> Option<&mut Value> {
        self.fields.iter_mut().find(|(number, _)| *number == field).map(|(_, value)| value)
    }

    /// Replaces the first value of a field, or adds it.
    pub fn set(&mut self, field: u64, value: Value) {
        match self.get_mut(field) {
            Some(old) => *old = value,
            None => self.fields.push((field, value)),
        }
    }

    /// The places of a field's values.
    pub fn places(&self, field: u64) -> Vec<usize> {
        (0..self.fields.len()).filter(|&i| self.fields[i].0 == field).collect()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number as u64)
    }
}

/// Numbers as one packed value.
pub fn packed(numbers: &[i64]) -> Value {
    Value::Bytes(numbers.iter().flat_map(|&number| encoded(number as u64)).collect())
}

/// The numbers of a packed value.
pub fn unpacked(mut bytes: &[u8]) -> Vec<i64> {
    std::iter::from_fn(|| varint(&mut bytes)).map(|number| number as i64).collect()
}

/// What a field of a message is, if it is a message.
fn child(kind: Kind, field: u64) -> Option<Kind> {
    Some(match (kind, field) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Model, 8) => Kind::Opset,
        (Kind::Model, 14) | (Kind::Tensor, 13) => Kind::Entry,
        (Kind::Graph, 1) => Kind::Node,
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Graph, 11..=13) => Kind::Info,
        (Kind::Node, 5) => Kind::Attribute,
        (Kind::Info, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Shape, 1) => Kind::Axis,
        _ => return None,
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

fn encoded(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn sized(content: Vec<u8>) -> Vec<u8> {
    [encoded(content.len() as u64), content].concat()
}
