//! [`Needed`]: the fields that an evaluation reads, and [`Values`], what they hold in one item.

use trellis_engine_traits::Result;
use trellis_tree::Leaf;

use crate::encoding::FieldValue;
use crate::field::Field;

/// Fields, sorted, none twice.
#[derive(Debug, Clone)]
pub(crate) struct Needed {
    fields: Vec<Field>,
}

/// What the fields of [`Needed`] hold, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Values(Vec<FieldValue>);

static ABSENT: FieldValue = FieldValue::Absent;

impl Needed {
    pub(crate) fn new(mut fields: Vec<Field>) -> Self {
        fields.sort();
        fields.dedup();
        Self { fields }
    }

    pub(crate) fn none_known(&self) -> Values {
        Values(vec![FieldValue::Absent; self.fields.len()])
    }

    /// What a field holds; absent when it is not among the needed ones.
    pub(crate) fn value<'a>(&self, values: &'a Values, field: &Field) -> &'a FieldValue {
        let found = self.fields.binary_search(field).ok();
        found.and_then(|index| values.0.get(index)).unwrap_or(&ABSENT)
    }

    /// Notes the item's key.
    pub(crate) fn begin(&self, key: &[u8], values: &mut Values) {
        values.0.fill(FieldValue::Absent);
        if let (Some(Field::Key), Some(value)) = (self.fields.first(), values.0.first_mut()) {
            let text = String::from_utf8_lossy(key).into_owned();
            *value = FieldValue::Leaf(Leaf::String(text));
        }
    }

    /// Takes a leaf at `below` the item. Says whether it told anything new.
    pub(crate) fn take(&self, below: &[u8], stored: &[u8], values: &mut Values) -> Result<bool> {
        let mut told = false;
        for (field, value) in self.fields.iter().zip(&mut values.0) {
            let Some(own) = field.below() else { continue };
            if *value != FieldValue::Absent {
                continue;
            }
            if below == own {
                *value = FieldValue::Leaf(Leaf::decode(stored)?);
                told = true;
            } else if is_below(below, own) {
                *value = FieldValue::Object;
                told = true;
            }
        }
        Ok(told)
    }

    /// The field whose leaves come next after `below`, ascending.
    pub(crate) fn next_after(&self, below: &[u8]) -> Option<&[u8]> {
        self.paths().find(|own| *own > below)
    }

    /// Behind which key the leaves of the field lie that comes next before `below`, descending.
    pub(crate) fn next_before(&self, below: &[u8]) -> Option<Vec<u8>> {
        self.paths().map(|own| [own, &[1]].concat()).filter(|end| end.as_slice() <= below).max()
    }

    fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter_map(Field::below).filter(|own| !own.is_empty())
    }
}

/// Whether a key lies below another, which is not empty or stands for the item itself.
fn is_below(key: &[u8], ancestor: &[u8]) -> bool {
    ancestor.is_empty() || key.strip_prefix(ancestor).is_some_and(|rest| rest.first() == Some(&0))
}
