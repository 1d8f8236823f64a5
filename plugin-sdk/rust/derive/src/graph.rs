//! `#[derive(Graph)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::{Attribute, DeriveInput, Error, Field, Ident, Lit, LitStr, Meta, Result, Token};

use crate::field::{self, Shape};

/// How readings become values, as the constructors of `Metric` are called.
const READINGS: [&str; 5] = ["gauge", "per_minute", "per_second", "delta", "per_minute_32"];

/// The units, as they are written and as `Unit` has them.
const UNITS: [(&str, &str); 9] = [
    ("float", "Float"),
    ("integer", "Integer"),
    ("percentage", "Percentage"),
    ("seconds", "Seconds"),
    ("milliseconds", "Milliseconds"),
    ("bytes", "Bytes"),
    ("bytes_per_second", "BytesPerSecond"),
    ("bits_per_second", "BitsPerSecond"),
    ("iops", "Iops"),
];

const EXAMPLE: &str = "#[graph(\"queue.jobs\", \"Queue: jobs\", integer)]";

/// `"queue.jobs", "Queue: jobs", integer`.
struct Heading {
    name: LitStr,
    label: LitStr,
    unit: Ident,
}

impl Parse for Heading {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![,]>()?;
        let label = input.parse()?;
        input.parse::<Token![,]>()?;
        let unit = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        if input.is_empty() { Ok(Self { name, label, unit }) } else { Err(input.error("write nothing after the unit")) }
    }
}

/// What stands in the parentheses above a metric.
#[derive(Default)]
struct Line {
    label: Option<LitStr>,
    name: Option<LitStr>,
    is_stacked: bool,
    scale: Option<f64>,
}

impl Parse for Line {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut line = Self::default();
        while !input.is_empty() {
            if input.peek(LitStr) && line.label.is_none() {
                line.label = Some(input.parse()?);
            } else {
                line.take_word(input)?;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(line)
    }
}

impl Line {
    fn take_word(&mut self, input: ParseStream<'_>) -> Result<()> {
        let word = input.parse::<Ident>()?;
        match word.to_string().as_str() {
            "stacked" => self.is_stacked = true,
            "name" => {
                input.parse::<Token![=]>()?;
                self.name = Some(input.parse()?);
            }
            "scale" => {
                input.parse::<Token![=]>()?;
                let minus = if input.parse::<Option<Token![-]>>()?.is_some() { -1.0 } else { 1.0 };
                let factor = match input.parse::<Lit>()? {
                    Lit::Float(number) => number.base10_parse::<f64>()?,
                    Lit::Int(number) => number.base10_parse::<f64>()?,
                    other => return Err(Error::new_spanned(other, "a scale is a number")),
                };
                if factor == 0.0 {
                    return Err(Error::new_spanned(word, "a scale of 0 makes every value 0: write another"));
                }
                self.scale = Some(minus * factor);
            }
            _ => return Err(field::unknown(&word, "a metric", "the label as a text, `name`, `stacked` and `scale`")),
        }
        Ok(())
    }
}

/// What the derive adds to a struct.
///
/// # Errors
/// A field cannot be a metric, or the graph's heading is wrong: names it, and what to write.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = field::named(input, "metric")?;
    let struct_name = &input.ident;
    let heading = input.attrs.iter().find(|attribute| attribute.path().is_ident("graph"));
    let missing = || Error::new_spanned(struct_name, format!("`{struct_name}` has no graph: write {EXAMPLE} above it"));
    let Heading { name, label, unit } = heading.ok_or_else(missing)?.parse_args().map_err(|error| {
        Error::new(error.span(), format!("a graph has a name, a label and a unit, {EXAMPLE}: {error}"))
    })?;
    check_name(&name)?;
    let valid = || UNITS.map(|(word, _)| format!("`{word}`")).join(", ");
    let known = UNITS.iter().find(|(word, _)| unit == word).ok_or_else(|| field::unknown(&unit, "a unit", &valid()))?;
    let unit = format_ident!("{}", known.1);

    let segments = fields.iter().filter(|field| has(&field.attrs, "segment")).collect::<Vec<_>>();
    let mut metrics = Vec::new();
    let mut samples = Vec::new();
    for field in fields {
        let Some((reading, line)) = line(field)? else { continue };
        if has(&field.attrs, "segment") {
            return Err(error(field, "it is a segment of the name and a metric: remove one of the two"));
        }
        let word = line.name.as_ref().map_or_else(|| field::name(field), LitStr::value);
        check_metric(field, &word)?;
        let full = format!("{}.{word}", name.value());
        check_segments(field, &full, &segments)?;
        metrics.push(metric(field, reading, &word, &line));
        samples.push(sample(field, &full, &segments)?);
    }
    if metrics.is_empty() {
        let why = format!("`{struct_name}` has no metric: write #[gauge] or #[per_minute] above a field");
        return Err(Error::new_spanned(struct_name, why));
    }
    Ok(quote! {
        #[automatically_derived]
        impl ::wasaba_plugin::AsGraph for #struct_name {
            fn graph() -> ::wasaba_plugin::Graph {
                ::wasaba_plugin::Graph::new(#name, #label, ::wasaba_plugin::Unit::#unit)#(.metric(#metrics))*
            }

            fn add_to(&self, samples: &mut ::std::vec::Vec<::wasaba_plugin::Sample>) {
                #(#samples)*
            }
        }
    })
}

/// The error alone, for the author: beside it the struct is a graph, so that the compiler does not say of each use that it has no `samples`.
pub(crate) fn stub(input: &DeriveInput, error: &Error) -> TokenStream {
    let (name, error) = (&input.ident, error.to_compile_error());
    let (parameters, arguments, bounds) = input.generics.split_for_impl();
    quote! {
        #error

        #[automatically_derived]
        impl #parameters ::wasaba_plugin::AsGraph for #name #arguments #bounds {
            fn graph() -> ::wasaba_plugin::Graph {
                ::std::unreachable!()
            }

            fn add_to(&self, _: &mut ::std::vec::Vec<::wasaba_plugin::Sample>) {}
        }
    }
}

fn has(attributes: &[Attribute], word: &str) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident(word))
}

fn error(field: &Field, why: &str) -> Error {
    Error::new_spanned(&field.ident, format!("metric `{}`: {why}", field::name(field)))
}

/// The attribute above a metric; `None` if the field is none.
fn line(field: &Field) -> Result<Option<(&'static str, Line)>> {
    let mut found = None;
    for attribute in &field.attrs {
        let Some(reading) = READINGS.iter().find(|reading| attribute.path().is_ident(reading)) else { continue };
        if let Some((other, _)) = found {
            return Err(error(field, &format!("it is a `{other}` and a `{reading}`: keep one")));
        }
        let line = if matches!(attribute.meta, Meta::Path(_)) { Line::default() } else { attribute.parse_args()? };
        found = Some((*reading, line));
    }
    Ok(found)
}

fn is_segment(text: &str) -> bool {
    let valid = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    matches!(text, "*" | "#") || (!text.is_empty() && text.chars().all(valid))
}

fn check_name(name: &LitStr) -> Result<()> {
    let text = name.value();
    let why = if text.starts_with("custom.") {
        "leave out `custom.`, which Mackerel adds"
    } else if !text.split('.').all(is_segment) {
        "it has letters, digits, `-` and `_`, or a wildcard `#` or `*`, joined by dots"
    } else if text.matches('#').count() > 1 {
        "one segment may be `#`: write `*` for the others"
    } else {
        return Ok(());
    };
    Err(Error::new_spanned(name, format!("invalid name of a graph {text:?}: {why}")))
}

fn check_metric(field: &Field, word: &str) -> Result<()> {
    if is_segment(word) && word != "#" {
        return Ok(());
    }
    Err(error(field, &format!("its name {word:?} is invalid: it has letters, digits, `-` and `_`, or is `*`")))
}

fn wildcards(name: &str) -> usize {
    name.split('.').filter(|segment| matches!(*segment, "*" | "#")).count()
}

fn check_segments(field: &Field, full: &str, segments: &[&Field]) -> Result<()> {
    let (wanted, there) = (wildcards(full), segments.len());
    if wanted == there {
        return Ok(());
    }
    let has = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let cure = if wanted > there {
        "write #[segment] above the field whose text stands for a wildcard"
    } else {
        "write `#` or `*` into the graph's name for each segment"
    };
    Err(error(
        field,
        &format!("{full:?} has {} and the struct {}: {cure}", has(wanted, "wildcard"), has(there, "segment")),
    ))
}

/// The metric, made by the builders. Its label is the field's name in words, if none is written.
fn metric(field: &Field, reading: &str, word: &str, line: &Line) -> TokenStream {
    let reading = format_ident!("{reading}");
    let label = line.label.as_ref().map_or_else(|| in_words(&field::name(field)), LitStr::value);
    let mut built = quote!(::wasaba_plugin::Metric::#reading(#word, #label));
    if line.is_stacked {
        built = quote!(#built.stacked());
    }
    if let Some(factor) = line.scale {
        built = quote!(#built.scale(#factor));
    }
    built
}

fn in_words(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn sample(field: &Field, full: &str, segments: &[&Field]) -> Result<TokenStream> {
    let (ident, (shape, of_type)) = (&field.ident, field::shape(field));
    let name = if segments.is_empty() {
        quote!(#full)
    } else {
        let idents = segments.iter().map(|segment| &segment.ident);
        quote!(::wasaba_plugin::named(#full, &[#(&::std::string::ToString::to_string(&self.#idents)),*]))
    };
    // At the type, where the compiler says what is wrong with it.
    let push = |reading: TokenStream| quote_spanned!(of_type.span()=> samples.push(::wasaba_plugin::Sample::new(#name, #reading)););
    match shape {
        Shape::One => Ok(push(quote!(&self.#ident))),
        Shape::Optional => {
            let push = push(quote!(reading));
            Ok(quote!(if let ::std::option::Option::Some(reading) = &self.#ident { #push }))
        }
        Shape::Several => Err(error(
            field,
            "it is a list, and a metric has one value: make a struct of a graph with a `#` in its name, and a list of those",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(code: &str) -> Result<String> {
        Ok(expand(&syn::parse_str(code)?)?.to_string().replace([' ', '\n'], ""))
    }

    fn error(code: &str) -> String {
        expanded(code).unwrap_err().to_string()
    }

    #[test]
    fn a_metric_has_the_fields_name_and_words_unless_others_are_written() {
        let code = expanded(
            "#[graph(\"queue.jobs\", \"Jobs\", bytes_per_second)]
            struct Jobs {
                #[gauge] idle_in_transaction: u64,
                #[per_minute(\"Done\", name = \"finished\", stacked, scale = 0.5)] r#done: Option<u64>,
                #[delta(\"D\")] d: u8, #[per_second] s: u8, #[per_minute_32] w: u32,
                other: String,
            }",
        );
        let code = code.unwrap();
        for part in [
            "Graph::new(\"queue.jobs\",\"Jobs\",::wasaba_plugin::Unit::BytesPerSecond)",
            "Metric::gauge(\"idle_in_transaction\",\"Idleintransaction\")",
            "Metric::per_minute(\"finished\",\"Done\").stacked().scale(0.5f64)",
            "Metric::delta(\"d\",\"D\")",
            "Metric::per_second(\"s\",\"S\")",
            "Metric::per_minute_32(\"w\",\"W\")",
            "Sample::new(\"queue.jobs.idle_in_transaction\",&self.idle_in_transaction)",
            "=&self.r#done{samples.push(::wasaba_plugin::Sample::new(\"queue.jobs.finished\",reading));}",
        ] {
            assert!(code.contains(part), "{part} is not in {code}");
        }
        assert!(!code.contains("other"), "{code}");
    }

    #[test]
    fn what_cannot_be_a_graph_is_one_beside_its_error() {
        for (code, name) in [
            ("#[graph(\"q\", \"Q\", int)] struct Q { #[gauge] a: u8 }", "forQ{"),
            ("#[graph(\"q\", \"Q\", integer)] struct Q<T: Copy> { #[gauge] a: T }", "forQ<T>{"),
            ("#[graph(\"q\", \"Q\", integer)] enum Q { A }", "forQ{"),
        ] {
            let input = syn::parse_str::<DeriveInput>(code).unwrap();
            let stub = stub(&input, &expand(&input).unwrap_err()).to_string().replace([' ', '\n'], "");
            assert!(stub.starts_with("::core::compile_error!{"), "{stub}");
            assert!(stub.contains(&format!("::wasaba_plugin::AsGraph{name}fngraph()")), "{stub}");
        }
    }

    #[test]
    fn a_segment_stands_for_each_wildcard() {
        let code = expanded(
            "#[graph(\"a.#.b\", \"A\", integer)] struct A { #[segment] x: String, #[segment] y: u8, #[gauge(\"%1\", name = \"*\")] n: u8 }",
        );
        let code = code.unwrap();
        assert!(code.contains("named(\"a.#.b.*\",&[&::std::string::ToString::to_string(&self.x),&::std::"), "{code}");
    }

    #[test]
    fn a_field_or_a_heading_that_cannot_be_one_is_named_with_the_cure() {
        let graph = "#[graph(\"q.jobs\", \"Jobs\", integer)] struct Jobs";
        let wild = "#[graph(\"q.#\", \"Jobs\", integer)] struct Jobs";
        for (code, expected) in [
            (format!("{graph} {{ #[gauge] #[delta] a: u8 }}"), "metric `a`: it is a `gauge` and a `delta`: keep one"),
            (
                format!("{graph} {{ #[gauge] a: Vec<u8> }}"),
                "metric `a`: it is a list, and a metric has one value: make a struct",
            ),
            (
                format!("{graph} {{ #[gauge(stackd)] a: u8 }}"),
                "unknown `stackd` of a metric: valid are the label as a text, `name`",
            ),
            (format!("{graph} {{ #[gauge(scale = 0)] a: u8 }}"), "a scale of 0 makes every value 0"),
            (format!("{graph} {{ #[gauge(name = \"a b\")] a: u8 }}"), "metric `a`: its name \"a b\" is invalid"),
            (format!("{graph} {{ a: u8 }}"), "`Jobs` has no metric: write #[gauge]"),
            (
                format!("{wild} {{ #[gauge] a: u8 }}"),
                "metric `a`: \"q.#.a\" has 1 wildcard and the struct 0 segments: write #[segment]",
            ),
            (
                format!("{graph} {{ #[segment] n: String, #[gauge] a: u8 }}"),
                "metric `a`: \"q.jobs.a\" has 0 wildcards and the struct 1 segment: write `#` or `*` into the graph's name",
            ),
            (format!("{wild} {{ #[segment] #[gauge] a: u8 }}"), "metric `a`: it is a segment of the name and a metric"),
            ("struct Jobs { #[gauge] a: u8 }".into(), "`Jobs` has no graph: write #[graph(\"queue.jobs\""),
            (
                "#[graph(\"q\", \"Q\")] struct Q { #[gauge] a: u8 }".into(),
                "a graph has a name, a label and a unit, #[graph(",
            ),
            (
                "#[graph(\"q\", \"Q\", int)] struct Q { #[gauge] a: u8 }".into(),
                "unknown `int` of a unit: valid are `float`, `integer`",
            ),
            (
                "#[graph(\"custom.q\", \"Q\", integer)] struct Q { #[gauge] a: u8 }".into(),
                "invalid name of a graph \"custom.q\": leave out `custom.`",
            ),
            (
                "#[graph(\"q.#.#\", \"Q\", integer)] struct Q { #[gauge] a: u8 }".into(),
                "invalid name of a graph \"q.#.#\": one segment may be `#`",
            ),
            (
                "#[graph(\"q jobs\", \"Q\", integer)] struct Q { #[gauge] a: u8 }".into(),
                "invalid name of a graph \"q jobs\": it has letters",
            ),
            ("#[graph(\"q\", \"Q\", integer)] enum Q { A }".into(), "`Q` is not a struct with named fields"),
        ] {
            let why = error(&code);
            assert!(why.starts_with(expected), "{code}: {why}");
        }
    }
}
