//! Observes a value while it is encoded: whether its bytes could fail to decode, and whether an equal value could have
//! other bytes.
//!
//! A serializer that wraps the codec's own and forwards each call. For most types the observations are constant, so
//! that the compiler removes almost all of it.

use std::{
    any::type_name,
    cell::{Cell, RefCell},
    fmt::Display,
};

use serde::{Serialize, Serializer, ser};

use super::{
    CodecError,
    order::{Order, is_field_name},
};

/// The observations about an encoded value.
#[derive(Default)]
pub(super) struct Survey {
    /// Whether a part has two forms, because it checked if the codec is human-readable; and the result of the check.
    readable: Cell<Option<bool>>,
    /// Whether a part is a 128-bit number, which serde cannot buffer.
    wide: Cell<bool>,
    /// Whether a map has keys that are neither text nor bytes.
    has_other_keys: Cell<bool>,
    /// Whether an equal value could have other bytes.
    has_equals: Cell<bool>,
    /// Whether to observe this, which requires the type name of each collection.
    seeks_equals: bool,
    /// Whether numbers that are not finite are refused.
    only_finite: bool,
    /// The fields that contain the refused part, innermost first.
    path: RefCell<Vec<&'static str>>,
}

impl Survey {
    /// For a codec that cannot represent NaN and infinity.
    pub(super) fn only_finite() -> Self {
        Self {
            only_finite: true,
            ..Self::default()
        }
    }

    /// Observes whether an equal value could have other bytes.
    pub(super) fn seeking_equals() -> Self {
        Self {
            seeks_equals: true,
            ..Self::default()
        }
    }

    /// The value to encode instead of `value`.
    pub(super) fn of<'a, T: Serialize + ?Sized>(&'a self, value: &'a T) -> Surveyed<'a, T> {
        let view = View {
            survey: self,
            is_key: false,
        };
        view.of(value)
    }

    /// Whether a part has a human-readable form and a compact one. `Some(true)` if the former was written.
    pub(super) fn readable(&self) -> Option<bool> {
        self.readable.get()
    }

    pub(super) fn is_wide(&self) -> bool {
        self.wide.get()
    }

    pub(super) fn has_other_keys(&self) -> bool {
        self.has_other_keys.get()
    }

    pub(super) fn has_equals(&self) -> bool {
        self.has_equals.get()
    }

    /// The error for a value whose encoded form cannot be decoded.
    pub(super) fn one_way(&self, cause: impl Display) -> CodecError {
        if !self.is_wide() {
            return CodecError::one_way(cause);
        }
        CodecError::one_way(format_args!(
            "{cause}; serde cannot decode 128-bit numbers inside tagged, untagged and flattened types: encode them \
             as text with `#[serde(with = \"…\")]`"
        ))
    }

    /// The place of the refused part, such as `order.price`. `None` for the value itself.
    pub(super) fn place(&self) -> Option<String> {
        let path = self.path.borrow();
        let fields: Vec<_> = path.iter().rev().copied().collect();
        (!fields.is_empty()).then(|| fields.join("."))
    }
}

/// The survey, and the current place in the value.
#[derive(Clone, Copy)]
struct View<'a> {
    survey: &'a Survey,
    /// Whether the place is the key of a map.
    is_key: bool,
}

impl<'a> View<'a> {
    fn of<T: ?Sized>(self, value: &'a T) -> Surveyed<'a, T> {
        Surveyed { value, view: self }
    }

    fn inside(self) -> Self {
        Self {
            is_key: false,
            ..self
        }
    }

    fn key(self) -> Self {
        Self {
            is_key: true,
            ..self
        }
    }

    /// The order of a collection's parts, if it is needed and there is more than one part.
    fn order(self, len: Option<usize>, type_name: fn() -> &'static str) -> Option<Order> {
        let may_have_many = len.is_none_or(|len| len > 1);
        (self.survey.seeks_equals && may_have_many).then(|| Order::of(type_name()))
    }

    /// Records a value that is neither text nor bytes.
    fn note_plain(self) {
        if self.is_key {
            self.survey.has_other_keys.set(true);
        }
    }

    fn note_float<E: ser::Error>(self, value: f64) -> Result<(), E> {
        self.note_plain();
        if value == 0.0 && value.is_sign_negative() {
            self.survey.has_equals.set(true);
        }
        if self.survey.only_finite && !value.is_finite() {
            return Err(E::custom(format_args!(
                "JSON cannot represent {value}: use `None` of an `Option`, or another codec"
            )));
        }
        Ok(())
    }
}

/// A value whose encoding is observed.
pub(super) struct Surveyed<'a, T: ?Sized> {
    value: &'a T,
    view: View<'a>,
}

impl<T: Serialize + ?Sized> Serialize for Surveyed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Surveyor {
            inner: serializer,
            view: self.view,
            type_name: type_name::<T>,
        })
    }
}

/// The serializer of one value.
struct Surveyor<'a, S> {
    inner: S,
    view: View<'a>,
    /// The value's type.
    type_name: fn() -> &'static str,
}

/// Forwards plain values.
macro_rules! forward {
    ($note:ident: $($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            forward!(@$note self value);
            self.inner.$method(value)
        })*
    };
    (@text $self:ident $value:ident) => {};
    (@plain $self:ident $value:ident) => { $self.view.note_plain() };
    (@wide $self:ident $value:ident) => {
        $self.view.note_plain();
        $self.view.survey.wide.set(true)
    };
    (@float $self:ident $value:ident) => { $self.view.note_float($value.into())? };
}

impl<'a, S: Serializer> Serializer for Surveyor<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'a, S::SerializeSeq>;
    type SerializeTuple = Parts<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'a, S::SerializeTupleVariant>;
    type SerializeMap = Entries<'a, S::SerializeMap>;
    type SerializeStruct = Parts<'a, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'a, S::SerializeStructVariant>;

    forward! { plain:
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
    }
    forward! { wide: serialize_i128: i128, serialize_u128: u128 }
    forward! { float: serialize_f32: f32, serialize_f64: f64 }
    forward! { text: serialize_char: char, serialize_str: &str, serialize_bytes: &[u8] }

    fn is_human_readable(&self) -> bool {
        let readable = self.inner.is_human_readable();
        self.view.survey.readable.set(Some(readable));
        readable
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&self.view.of(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner
            .serialize_newtype_struct(name, &self.view.of(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.view.inside().of(value);
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        if self.view.order(len, self.type_name) == Some(Order::OfASet) {
            self.view.survey.has_equals.set(true);
        }
        let view = self.view.inside();
        let inner = self.inner.serialize_seq(len)?;
        Ok(Parts { inner, view })
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let view = self.view.inside();
        let inner = self.inner.serialize_tuple(len)?;
        Ok(Parts { inner, view })
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let view = self.view.inside();
        let inner = self.inner.serialize_tuple_struct(name, len)?;
        Ok(Parts { inner, view })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let view = self.view.inside();
        let inner = self
            .inner
            .serialize_tuple_variant(name, index, variant, len)?;
        Ok(Parts { inner, view })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let view = self.view.inside();
        let order = self.view.order(len, self.type_name);
        let is_ordered = order.is_none_or(|order| order == Order::Fixed);
        let inner = self.inner.serialize_map(len)?;
        Ok(Entries {
            inner,
            view,
            is_ordered,
        })
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let view = self.view.inside();
        let inner = self.inner.serialize_struct(name, len)?;
        Ok(Parts { inner, view })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let view = self.view.inside();
        let inner = self
            .inner
            .serialize_struct_variant(name, index, variant, len)?;
        Ok(Parts { inner, view })
    }
}

/// The elements or fields of a value.
struct Parts<'a, C> {
    inner: C,
    view: View<'a>,
}

macro_rules! elements {
    ($($trait:ident $method:ident),* $(,)?) => {
        $(impl<C: ser::$trait> ser::$trait for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.inner.$method(&self.view.of(value))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

elements! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! fields {
    ($($trait:ident),*) => {
        $(impl<C: ser::$trait> ser::$trait for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                let written = self.inner.serialize_field(name, &self.view.of(value));
                written.inspect_err(|_| self.view.survey.path.borrow_mut().push(name))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

fields! { SerializeStruct, SerializeStructVariant }

/// The entries of a map.
struct Entries<'a, C> {
    inner: C,
    view: View<'a>,
    /// Whether equal maps have their entries in the same order.
    is_ordered: bool,
}

impl<C> Entries<'_, C> {
    fn note_key<K: ?Sized>(&self) {
        if !self.is_ordered && !is_field_name::<K>() {
            self.view.survey.has_equals.set(true);
        }
    }
}

impl<C: ser::SerializeMap> ser::SerializeMap for Entries<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), C::Error> {
        self.note_key::<K>();
        self.inner.serialize_key(&self.view.key().of(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&self.view.of(value))
    }

    fn serialize_entry<K: Serialize + ?Sized, T: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &T,
    ) -> Result<(), C::Error> {
        self.note_key::<K>();
        self.inner
            .serialize_entry(&self.view.key().of(key), &self.view.of(value))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
