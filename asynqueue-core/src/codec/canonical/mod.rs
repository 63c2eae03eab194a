//! The canonical form of a value: equal values have equal bytes, regardless of the order of their maps and sets.

mod node;
#[cfg(test)]
mod tests;

use std::any::type_name;

use serde::{
    Serialize, Serializer,
    de::value::Error,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use self::node::{Content, Fields, Node, Variant};
use super::{
    Codec, CodecError,
    order::{Order, is_field_name},
    survey::Survey,
};

/// Encodes a value in its canonical form. A value without unordered collections and negative zero is encoded as usual,
/// and only once.
pub(crate) fn encode<C: Codec, T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let survey = Survey::seeking_equals();
    let bytes = C::encode(&survey.of(value))?;
    if !survey.has_equals() {
        return Ok(bytes);
    }
    let builder = Builder {
        is_readable: survey.readable().unwrap_or_default(),
        type_name: type_name::<T>,
    };
    C::encode(&value.serialize(builder).map_err(CodecError::new)?)
}

/// Builds the canonical form of one value.
#[derive(Clone, Copy)]
struct Builder {
    is_readable: bool,
    /// The value's type.
    type_name: fn() -> &'static str,
}

impl Builder {
    fn node<T: Serialize + ?Sized>(self, value: &T) -> Result<Node, Error> {
        value.serialize(Self {
            type_name: type_name::<T>,
            ..self
        })
    }

    fn boxed<T: Serialize + ?Sized>(self, value: &T) -> Result<Box<Node>, Error> {
        self.node(value).map(Box::new)
    }

    fn items(self, make: impl FnOnce(Vec<Node>) -> Node + 'static) -> Items {
        Items {
            builder: self,
            items: Vec::new(),
            make: Box::new(make),
        }
    }

    fn fields(self, make: impl FnOnce(Fields) -> Node + 'static) -> Structure {
        Structure {
            builder: self,
            fields: Vec::new(),
            make: Box::new(make),
        }
    }
}

macro_rules! plain {
    ($($method:ident($value:ident: $type:ty) => $node:expr),* $(,)?) => {
        $(fn $method(self, $value: $type) -> Result<Node, Error> {
            Ok($node)
        })*
    };
}

impl Serializer for Builder {
    type Ok = Node;
    type Error = Error;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Structure;
    type SerializeStructVariant = Structure;

    plain! {
        serialize_bool(v: bool) => Node::Bool(v),
        serialize_i8(v: i8) => Node::I8(v),
        serialize_i16(v: i16) => Node::I16(v),
        serialize_i32(v: i32) => Node::I32(v),
        serialize_i64(v: i64) => Node::I64(v),
        serialize_i128(v: i128) => Node::I128(v),
        serialize_u8(v: u8) => Node::U8(v),
        serialize_u16(v: u16) => Node::U16(v),
        serialize_u32(v: u32) => Node::U32(v),
        serialize_u64(v: u64) => Node::U64(v),
        serialize_u128(v: u128) => Node::U128(v),
        // Adding zero turns negative zero into zero.
        serialize_f32(v: f32) => Node::F32((v + 0.0).to_bits()),
        serialize_f64(v: f64) => Node::F64((v + 0.0).to_bits()),
        serialize_char(v: char) => Node::Char(v),
        serialize_str(v: &str) => Node::Str(v.to_owned()),
        serialize_bytes(v: &[u8]) => Node::Bytes(v.to_vec()),
        serialize_unit_struct(name: &'static str) => Node::UnitStruct(name),
    }

    fn is_human_readable(&self) -> bool {
        self.is_readable
    }

    fn serialize_none(self) -> Result<Node, Error> {
        Ok(Node::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Node, Error> {
        self.boxed(value).map(Node::Some)
    }

    fn serialize_unit(self) -> Result<Node, Error> {
        Ok(Node::Unit)
    }

    fn serialize_unit_variant(
        self,
        of: &'static str,
        index: u32,
        name: &'static str,
    ) -> Result<Node, Error> {
        Ok(Node::Variant(Variant { index, name, of }, Content::Unit))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Node, Error> {
        Ok(Node::NewtypeStruct(name, self.boxed(value)?))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        index: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Node, Error> {
        let content = Content::Newtype(self.boxed(value)?);
        Ok(Node::Variant(Variant { index, name, of }, content))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items, Error> {
        let is_set = Order::of((self.type_name)()) == Order::OfASet;
        Ok(self.items(move |mut items| {
            if is_set {
                items.sort_unstable();
            }
            Node::Seq(items, len)
        }))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Error> {
        Ok(self.items(Node::Tuple))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Items, Error> {
        Ok(self.items(move |items| Node::TupleStruct(name, items)))
    }

    fn serialize_tuple_variant(
        self,
        of: &'static str,
        index: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Items, Error> {
        let variant = Variant { index, name, of };
        Ok(self.items(move |items| Node::Variant(variant, Content::Tuple(items))))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries, Error> {
        Ok(Entries {
            builder: self,
            len,
            entries: Vec::new(),
            unsorted: 0,
            is_ordered: Order::of((self.type_name)()) == Order::Fixed,
        })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Structure, Error> {
        Ok(self.fields(move |fields| Node::Struct(name, fields)))
    }

    fn serialize_struct_variant(
        self,
        of: &'static str,
        index: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Structure, Error> {
        let variant = Variant { index, name, of };
        Ok(self.fields(move |fields| Node::Variant(variant, Content::Struct(fields))))
    }
}

/// The elements of a sequence or a tuple.
struct Items {
    builder: Builder,
    items: Vec<Node>,
    make: Box<dyn FnOnce(Vec<Node>) -> Node>,
}

macro_rules! items {
    ($($trait:ident $method:ident),* $(,)?) => {
        $(impl $trait for Items {
            type Ok = Node;
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.items.push(self.builder.node(value)?);
                Ok(())
            }

            fn end(self) -> Result<Node, Error> {
                Ok((self.make)(self.items))
            }
        })*
    };
}

items! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

/// The fields of a struct.
struct Structure {
    builder: Builder,
    fields: Fields,
    make: Box<dyn FnOnce(Fields) -> Node>,
}

macro_rules! structures {
    ($($trait:ident),*) => {
        $(impl $trait for Structure {
            type Ok = Node;
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.fields.push((name, self.builder.node(value)?));
                Ok(())
            }

            fn end(self) -> Result<Node, Error> {
                Ok((self.make)(self.fields))
            }
        })*
    };
}

structures! { SerializeStruct, SerializeStructVariant }

/// The entries of a map, and of a struct with flattened fields.
struct Entries {
    builder: Builder,
    len: Option<usize>,
    entries: Vec<(Node, Node)>,
    /// Where the entries start that are not sorted yet.
    unsorted: usize,
    is_ordered: bool,
}

impl Entries {
    fn key<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), Error> {
        let key = self.builder.node(key)?;
        if is_field_name::<K>() {
            self.sort();
            self.unsorted += 1;
        }
        self.entries.push((key, Node::Unit));
        Ok(())
    }

    fn sort(&mut self) {
        if !self.is_ordered {
            // Stable, so that a duplicate entry keeps its last value.
            self.entries[self.unsorted..].sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        self.unsorted = self.entries.len();
    }
}

impl SerializeMap for Entries {
    type Ok = Node;
    type Error = Error;

    fn serialize_key<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), Error> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let value = self.builder.node(value)?;
        if let Some(entry) = self.entries.last_mut() {
            entry.1 = value;
        }
        Ok(())
    }

    fn end(mut self) -> Result<Node, Error> {
        self.sort();
        Ok(Node::Map(self.entries, self.len))
    }
}
