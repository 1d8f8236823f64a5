//! A field: a part of a JSON body that knows its path, so that each refusal names it.
//!
//! It only knows types; the file of each endpoint knows what a value means.

use serde_json::Value;

use super::Refusal;

/// A value and its path: `[3].value`, `meta.filesystem["/dev/vda"].mount`; empty for the whole body.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Field<'a> {
    pub(super) fn body(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The refusal "`path` `why`".
    pub(super) fn refuse(&self, why: &str) -> Refusal {
        let path = if self.path.is_empty() { "the body" } else { &self.path };
        Refusal::new(400, format!("{path} {why}"))
    }

    /// Refuses with `why` unless `holds`.
    pub(super) fn ensure(&self, holds: bool, why: &str) -> Result<(), Refusal> {
        if holds { Ok(()) } else { Err(self.refuse(why)) }
    }

    pub(super) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    pub(super) fn to_value(&self) -> Value {
        self.value.clone()
    }

    pub(super) fn string(&self) -> Result<&'a str, Refusal> {
        self.value.as_str().ok_or_else(|| self.refuse("must be a string"))
    }

    /// A finite number. (JSON has no others, but with `arbitrary_precision` serde_json would let 1e999 through.)
    pub(super) fn number(&self) -> Result<f64, Refusal> {
        self.value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| self.refuse("must be a number"))
    }

    pub(super) fn integer(&self) -> Result<i64, Refusal> {
        self.value.as_i64().ok_or_else(|| self.refuse("must be an integer"))
    }

    pub(super) fn boolean(&self) -> Result<bool, Refusal> {
        self.value.as_bool().ok_or_else(|| self.refuse("must be true or false"))
    }

    /// The elements of an array.
    pub(super) fn elements(&self) -> Result<impl ExactSizeIterator<Item = Field<'a>> + use<'a, '_>, Refusal> {
        let elements = self.value.as_array().ok_or_else(|| self.refuse("must be an array"))?;
        let field = |(index, value)| Field { value, path: format!("{}[{index}]", self.path) };
        Ok(elements.iter().enumerate().map(field))
    }

    /// The members of an object, without a check of the keys.
    pub(super) fn members(&self) -> Result<impl Iterator<Item = Field<'a>> + use<'a, '_>, Refusal> {
        let members = self.value.as_object().ok_or_else(|| self.refuse("must be an object"))?;
        Ok(members.iter().map(|(key, value)| Field { value, path: self.path_of(key) }))
    }

    /// A member that must be present; also refuses anything but an object.
    pub(super) fn required(&self, key: &str) -> Result<Field<'a>, Refusal> {
        self.optional(key)?.ok_or_else(|| Field { value: &Value::Null, path: self.path_of(key) }.refuse("is missing"))
    }

    /// A member that may be missing; also refuses anything but an object.
    pub(super) fn optional(&self, key: &str) -> Result<Option<Field<'a>>, Refusal> {
        let members = self.value.as_object().ok_or_else(|| self.refuse("must be an object"))?;
        Ok(members.get(key).map(|value| Field { value, path: self.path_of(key) }))
    }

    /// Refuses a key that is not among `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let members = self.value.as_object().ok_or_else(|| self.refuse("must be an object"))?;
        match members.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                Err(Refusal::new(400, format!("unknown field {}; valid: {}", self.path_of(key), known.join(", "))))
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        match (super::is_segment(key), self.path.is_empty()) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{}.{key}", self.path),
            (false, _) => format!("{}[{key:?}]", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_names_the_path_through_arrays_objects_and_unusual_keys() {
        let body = json!([{"a": {"/dev/vda": {"b": 1}}}]);
        let field = Field::body(&body).elements().unwrap().next().unwrap().required("a").unwrap();
        let inner = field.members().unwrap().next().unwrap().required("b").unwrap();
        assert_eq!(inner.string().unwrap_err().message, r#"[0].a["/dev/vda"].b must be a string"#);
        assert_eq!(field.required("c").unwrap_err().message, "[0].a.c is missing");
        assert_eq!(Field::body(&body).integer().unwrap_err().message, "the body must be an integer");
    }
}
