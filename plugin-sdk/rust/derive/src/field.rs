//! What both derives read of a struct: its named fields, and whether one is optional or there are several.

use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::{
    Data, DeriveInput, Error, Field, Fields, GenericArgument, Ident, LitStr, PathArguments, Result, Token, Type,
};

/// The fields of a struct, which `of` says the use of in the error for anything else.
pub(crate) fn named<'a>(input: &'a DeriveInput, of: &str) -> Result<&'a Punctuated<Field, Token![,]>> {
    let name = &input.ident;
    let why = format!("`{name}` is not a struct with named fields: make it one, with a field for each {of}");
    let Data::Struct(data) = &input.data else { return Err(Error::new_spanned(name, why)) };
    let Fields::Named(fields) = &data.fields else { return Err(Error::new_spanned(name, why)) };
    if !input.generics.params.is_empty() {
        let why = format!("`{name}` has generic parameters: write out the types of its fields");
        return Err(Error::new_spanned(&input.generics, why));
    }
    Ok(&fields.named)
}

/// A field's name as the author wrote it, without `r#`.
pub(crate) fn name(field: &Field) -> String {
    field.ident.as_ref().map(|ident| ident.unraw().to_string()).unwrap_or_default()
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    Optional,
    Several,
}

/// How many values a field has, and the type of one.
pub(crate) fn shape(field: &Field) -> (Shape, &Type) {
    let Type::Path(path) = &field.ty else { return (Shape::One, &field.ty) };
    let Some(last) = path.path.segments.last() else { return (Shape::One, &field.ty) };
    let shape = match last.ident.to_string().as_str() {
        "Option" => Shape::Optional,
        "Vec" => Shape::Several,
        _ => return (Shape::One, &field.ty),
    };
    match &last.arguments {
        PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
            Some(GenericArgument::Type(inner)) => (shape, inner),
            _ => (Shape::One, &field.ty),
        },
        _ => (Shape::One, &field.ty),
    }
}

/// The last word of a type's path: `Duration` of `std::time::Duration`.
pub(crate) fn type_name(of: &Type) -> String {
    let Type::Path(path) = of else { return String::new() };
    path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default()
}

/// The error for a word that is none of `valid`.
pub(crate) fn unknown(word: &Ident, of: &str, valid: &str) -> Error {
    Error::new_spanned(word, format!("unknown `{word}` of {of}: valid are {valid}"))
}

/// Texts, for an error: `"a", "b"`.
pub(crate) fn listed(texts: &[LitStr]) -> String {
    texts.iter().map(|text| format!("{:?}", text.value())).collect::<Vec<_>>().join(", ")
}
