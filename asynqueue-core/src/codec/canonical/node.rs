//! A value in serde's data model, to be sorted and encoded.

use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

pub(super) type Fields = Vec<(&'static str, Node)>;

/// A value as received from serde, to be serialized again. Its order matches that of the values for most types.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Bool(bool),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    I128(i128),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    U128(u128),
    /// The bits of the number, because floats have no total order.
    F32(u32),
    F64(u64),
    Char(char),
    Str(String),
    Bytes(Vec<u8>),
    None,
    Some(Box<Node>),
    Unit,
    UnitStruct(&'static str),
    NewtypeStruct(&'static str, Box<Node>),
    Seq(Vec<Node>, Option<usize>),
    Tuple(Vec<Node>),
    TupleStruct(&'static str, Vec<Node>),
    Map(Vec<(Node, Node)>, Option<usize>),
    Struct(&'static str, Fields),
    Variant(Variant, Content),
}

/// A variant of an enum: the index first, because it determines the order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Variant {
    pub(super) index: u32,
    pub(super) name: &'static str,
    /// The name of the enum.
    pub(super) of: &'static str,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    Unit,
    Newtype(Box<Node>),
    Tuple(Vec<Node>),
    Struct(Fields),
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(v) => s.serialize_bool(*v),
            Self::I8(v) => s.serialize_i8(*v),
            Self::I16(v) => s.serialize_i16(*v),
            Self::I32(v) => s.serialize_i32(*v),
            Self::I64(v) => s.serialize_i64(*v),
            Self::I128(v) => s.serialize_i128(*v),
            Self::U8(v) => s.serialize_u8(*v),
            Self::U16(v) => s.serialize_u16(*v),
            Self::U32(v) => s.serialize_u32(*v),
            Self::U64(v) => s.serialize_u64(*v),
            Self::U128(v) => s.serialize_u128(*v),
            Self::F32(bits) => s.serialize_f32(f32::from_bits(*bits)),
            Self::F64(bits) => s.serialize_f64(f64::from_bits(*bits)),
            Self::Char(v) => s.serialize_char(*v),
            Self::Str(v) => s.serialize_str(v),
            Self::Bytes(v) => s.serialize_bytes(v),
            Self::None => s.serialize_none(),
            Self::Some(v) => s.serialize_some(v),
            Self::Unit => s.serialize_unit(),
            Self::UnitStruct(name) => s.serialize_unit_struct(name),
            Self::NewtypeStruct(name, v) => s.serialize_newtype_struct(name, v),
            Self::Seq(items, len) => {
                let mut seq = s.serialize_seq(*len)?;
                items
                    .iter()
                    .try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Self::Tuple(items) => {
                let mut tuple = s.serialize_tuple(items.len())?;
                items
                    .iter()
                    .try_for_each(|item| tuple.serialize_element(item))?;
                tuple.end()
            }
            Self::TupleStruct(name, items) => {
                let mut tuple = s.serialize_tuple_struct(name, items.len())?;
                items
                    .iter()
                    .try_for_each(|item| tuple.serialize_field(item))?;
                tuple.end()
            }
            Self::Map(entries, len) => {
                let mut map = s.serialize_map(*len)?;
                let mut entries = entries.iter();
                entries.try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
            Self::Struct(name, fields) => {
                let mut all = s.serialize_struct(name, fields.len())?;
                let mut fields = fields.iter();
                fields.try_for_each(|(name, value)| all.serialize_field(name, value))?;
                all.end()
            }
            Self::Variant(variant, content) => content.serialize(*variant, s),
        }
    }
}

impl Content {
    fn serialize<S: Serializer>(&self, variant: Variant, s: S) -> Result<S::Ok, S::Error> {
        let Variant { index, name, of } = variant;
        match self {
            Self::Unit => s.serialize_unit_variant(of, index, name),
            Self::Newtype(value) => s.serialize_newtype_variant(of, index, name, value),
            Self::Tuple(items) => {
                let mut tuple = s.serialize_tuple_variant(of, index, name, items.len())?;
                items
                    .iter()
                    .try_for_each(|item| tuple.serialize_field(item))?;
                tuple.end()
            }
            Self::Struct(fields) => {
                let mut all = s.serialize_struct_variant(of, index, name, fields.len())?;
                let mut fields = fields.iter();
                fields.try_for_each(|(name, value)| all.serialize_field(name, value))?;
                all.end()
            }
        }
    }
}
