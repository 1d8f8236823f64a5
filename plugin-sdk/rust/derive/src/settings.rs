//! `#[derive(Settings)]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Attribute, DeriveInput, Error, Expr, Field, Ident, Lit, LitStr, Meta, Path, Result, Token, Type, bracketed};

use crate::field::{self, Shape};

/// The kinds, as they are written above a field and as the constructors of `Setting` are called.
const KINDS: [&str; 14] = [
    "text",
    "secret",
    "integer",
    "number",
    "boolean",
    "duration",
    "url",
    "endpoint",
    "host",
    "port",
    "unix_socket",
    "file",
    "tls_skip_verify",
    "tls_mode",
];

const WORDS: &str =
    "`default`, `key`, `help`, `one_of`, `of` (for a port: the field with its host) and `aliases` (for `tls_mode`)";

/// A field that is a setting.
struct Declared<'a> {
    field: &'a Field,
    shape: Shape,
    of_type: &'a Type,
    kind: String,
    key: String,
    help: String,
    default: Option<Default>,
    one_of: Vec<LitStr>,
    host: Option<Ident>,
    aliases: Vec<LitStr>,
}

/// A default: a literal, as the text that an operator would write, or a constant.
enum Default {
    Literal(LitStr),
    Constant(Path),
}

impl ToTokens for Default {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Literal(text) => text.to_tokens(tokens),
            Self::Constant(path) => path.to_tokens(tokens),
        }
    }
}

/// What the derive adds to a struct.
///
/// # Errors
/// A field cannot be a setting: names it, and what to write.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = field::named(input, "setting")?.iter().map(Declared::of).collect::<Result<Vec<_>>>()?;
    for (number, declared) in fields.iter().enumerate() {
        if fields.iter().take(number).any(|other| other.key == declared.key) {
            return Err(declared.error(&format!("its key `{}` is another field's, too: give it a `key`", declared.key)));
        }
    }
    let builders = fields.iter().map(|declared| declared.builder(&fields)).collect::<Result<Vec<_>>>()?;
    let read = fields.iter().map(Declared::read);
    // What the agent goes by, or `Parts`, is not unused.
    let of_others =
        |declared: &&Declared<'_>| declared.kind.starts_with("tls_") || field::type_name(declared.of_type) == "Prefix";
    let of_agent = fields.iter().filter(of_others);
    let of_agent = of_agent.map(|declared| &declared.field.ident).collect::<Vec<_>>();
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        impl ::wasaba_plugin::FromSettings for #name {
            fn declared() -> ::std::vec::Vec<::wasaba_plugin::Setting> {
                ::std::vec![#(#builders),*]
            }

            fn from_settings(
                settings: ::wasaba_plugin::Settings,
            ) -> ::std::result::Result<Self, ::wasaba_plugin::Error> {
                ::std::result::Result::Ok(Self { #(#read),* })
            }

            fn of_agent(&self) {
                #(let _ = &self.#of_agent;)*
            }
        }
    })
}

/// The error alone, for the author: beside it the struct is one of settings, so that the compiler does not say that each use expects one.
pub(crate) fn stub(input: &DeriveInput, error: &Error) -> TokenStream {
    let (name, error) = (&input.ident, error.to_compile_error());
    let (parameters, arguments, bounds) = input.generics.split_for_impl();
    quote! {
        #error

        #[automatically_derived]
        impl #parameters ::wasaba_plugin::FromSettings for #name #arguments #bounds {
            fn declared() -> ::std::vec::Vec<::wasaba_plugin::Setting> {
                ::std::unreachable!()
            }

            fn from_settings(
                _: ::wasaba_plugin::Settings,
            ) -> ::std::result::Result<Self, ::wasaba_plugin::Error> {
                ::std::unreachable!()
            }
        }
    }
}

impl<'a> Declared<'a> {
    fn of(field: &'a Field) -> Result<Self> {
        let (shape, of_type) = field::shape(field);
        let mut declared = Self {
            field,
            shape,
            of_type,
            kind: String::new(),
            key: field::name(field).replace('_', "-"),
            help: help(&field.attrs),
            default: None,
            one_of: Vec::new(),
            host: None,
            aliases: Vec::new(),
        };
        for attribute in &field.attrs {
            let Some(word) = attribute.path().get_ident().map(Ident::to_string) else { continue };
            if KINDS.contains(&word.as_str()) {
                if !declared.kind.is_empty() {
                    let why = format!("it has two kinds, `{}` and `{word}`: keep one", declared.kind);
                    return Err(declared.error(&why));
                }
                declared.kind = word;
            } else if word != "setting" {
                continue;
            }
            if matches!(attribute.meta, Meta::List(_)) {
                attribute.parse_nested_meta(|meta| declared.take(&meta))?;
            }
        }
        if declared.kind.is_empty() {
            declared.kind = kind_of_type(of_type).map_err(|why| declared.error(&why))?.to_owned();
        }
        declared.check()?;
        Ok(declared)
    }

    /// An error about this setting.
    fn error(&self, why: &str) -> Error {
        Error::new_spanned(&self.field.ident, format!("setting `{}`: {why}", field::name(self.field)))
    }

    /// Takes one of the words in the parentheses of an attribute.
    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        match meta.path.get_ident().map(Ident::to_string).as_deref() {
            Some("default") => self.default = Some(default(meta)?),
            Some("key") => self.key = meta.value()?.parse::<LitStr>()?.value(),
            Some("help") => self.help = meta.value()?.parse::<LitStr>()?.value(),
            Some("one_of") => self.one_of = texts(meta)?,
            Some("aliases") => self.aliases = texts(meta)?,
            Some("of") => self.host = Some(meta.value()?.parse()?),
            _ => return Err(meta.error(format!("unknown word of setting `{}`: valid are {WORDS}", self.key))),
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let is_lower = |word: &str| {
            word.starts_with(|char: char| char.is_ascii_lowercase())
                && word.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit())
        };
        if self.key.len() > 64 || !self.key.split('-').all(is_lower) {
            let why = "has lower-case words joined by `-`, as on a command line, and 64 letters at most";
            return Err(self.error(&format!("its key {:?} is invalid: a key {why}", self.key)));
        }
        let is_secret = field::type_name(self.of_type) == "Secret";
        if (self.kind == "secret") != is_secret {
            return Err(self.error(if is_secret {
                "a `Secret` is of kind secret: remove the other kind"
            } else {
                "the plugin gets a handle of a secret, not its text: make its type `Secret`, `Option<Secret>` or `Vec<Secret>`"
            }));
        }
        if let Some(default) = &self.default {
            if is_secret {
                return Err(self.error("a secret has no default: make it an `Option<Secret>`"));
            }
            if self.shape == Shape::Optional {
                return Err(self.error("with a default it is never missing: remove the `Option` or the default"));
            }
            if let Default::Literal(literal) = default {
                let value = literal.value();
                let is_valid = self.one_of.is_empty() || self.one_of.iter().any(|text| text.value() == value);
                let valid = if is_valid { default_of(&self.kind, &value) } else { Err(field::listed(&self.one_of)) };
                valid.map_err(|valid| self.error(&format!("its default {value:?} is invalid: write {valid}")))?;
            }
        }
        if !self.one_of.is_empty() && self.kind != "text" {
            return Err(self.error("only a text is one of several: remove `one_of`, or make the kind `text`"));
        }
        if self.host.is_some() && self.kind != "port" {
            return Err(self.error("only a port is `of` a host: remove `of`, or make the kind `port`"));
        }
        if !self.aliases.is_empty() && self.kind != "tls_mode" {
            return Err(self.error("only `tls_mode` has aliases: remove them"));
        }
        if self.aliases.iter().any(|alias| !alias.value().contains('=')) {
            return Err(self.error("an alias is a word and what it means, such as \"require=encrypt\""));
        }
        Ok(())
    }

    /// The setting, made by the builders.
    fn builder(&self, all: &[Self]) -> Result<TokenStream> {
        let (kind, key, help) = (format_ident!("{}", self.kind), &self.key, &self.help);
        let mut built = quote!(::wasaba_plugin::Setting::#kind(#key));
        if let Some(host) = &self.host {
            let of = all.iter().find(|other| other.field.ident.as_ref() == Some(host) && other.kind == "host");
            let hosts = all.iter().filter(|other| other.kind == "host").map(|other| field::name(other.field));
            let hosts = hosts.collect::<Vec<_>>().join("`, `");
            let cure = if hosts.is_empty() { "add one".to_owned() } else { format!("there is `{hosts}`") };
            let of = of.ok_or_else(|| {
                self.error(&format!("it is `of` `{host}`, which is not a field of kind host: {cure}"))
            })?;
            let of = &of.key;
            built = quote!(#built.of_host(#of));
        }
        for alias in &self.aliases {
            let alias = alias.value();
            let (word, meaning) = alias.split_once('=').unwrap_or_default();
            built = quote!(#built.alias(#word, #meaning));
        }
        match (&self.default, self.shape) {
            (Some(default), _) => built = quote!(#built.default(#default)),
            (None, Shape::One) => built = quote!(#built.required()),
            (None, _) => {}
        }
        if self.shape == Shape::Several {
            built = quote!(#built.repeatable());
        }
        Ok(if help.is_empty() { built } else { quote!(#built.help(#help)) })
    }

    /// The field of a struct that is read.
    fn read(&self) -> TokenStream {
        let (name, key, one_of, of_type) = (&self.field.ident, &self.key, &self.one_of, self.of_type);
        let default = match &self.default {
            Some(default) => quote!(::std::option::Option::Some(#default)),
            None => quote!(::std::option::Option::None),
        };
        let read = match self.shape {
            Shape::One => quote!(read_one),
            Shape::Optional => quote!(read_optional),
            Shape::Several => quote!(read_several),
        };
        // At the type, where the compiler says what is wrong with it.
        quote_spanned!(of_type.span()=> #name: settings.#read::<#of_type>(#key, #default, &[#(#one_of),*])?)
    }
}

/// The doc comment as one line, without a full stop.
fn help(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        let Expr::Lit(value) = &pair.value else { continue };
        let Lit::Str(text) = &value.lit else { continue };
        lines.extend(text.value().split('\n').map(|line| line.trim().to_owned()));
    }
    // What follows an empty line is for readers of the code.
    let first = lines.iter().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    let text = first.map(String::as_str).collect::<Vec<_>>().join(" ");
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// The kind of a setting of this type.
fn kind_of_type(of_type: &Type) -> std::result::Result<&'static str, String> {
    Ok(match field::type_name(of_type).as_str() {
        "String" => "text",
        "Secret" => "secret",
        "bool" => "boolean",
        "Duration" => "duration",
        "Endpoint" => "endpoint",
        "f32" | "f64" => "number",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => "integer",
        _ => {
            let kinds = KINDS.map(|kind| format!("#[{kind}]")).join(", ");
            return Err(format!("its type has no kind of its own: write one above the field, of {kinds}"));
        }
    })
}

/// Whether a default is valid for a kind; else what is.
fn default_of(kind: &str, value: &str) -> std::result::Result<(), String> {
    let (is_valid, valid) = match kind {
        "integer" => (value.parse::<i64>().is_ok(), "a whole number"),
        "number" => (value.parse::<f64>().is_ok(), "a number"),
        "boolean" | "tls_skip_verify" => (matches!(value, "true" | "false"), "true or false"),
        "duration" => {
            let digits = value.trim_end_matches(|char: char| char.is_ascii_lowercase());
            let unit = value.get(digits.len()..).unwrap_or_default();
            (
                digits.parse::<u64>().is_ok() && matches!(unit, "ms" | "s" | "m" | "h"),
                "one like \"500ms\", \"10s\" or \"5m\"",
            )
        }
        "url" => {
            (value.starts_with("http://") || value.starts_with("https://"), "one that begins with http:// or https://")
        }
        "port" => (value.parse::<u16>().is_ok_and(|port| port > 0), "a number from 1 to 65535"),
        "unix_socket" | "file" => (value.starts_with('/'), "an absolute path"),
        _ => (true, ""),
    };
    if is_valid { Ok(()) } else { Err(valid.to_owned()) }
}

/// What follows `default`.
fn default(meta: &ParseNestedMeta<'_>) -> Result<Default> {
    let value = meta.value()?;
    if !value.peek(Lit) && !value.peek(Token![-]) {
        return Ok(Default::Constant(value.parse()?));
    }
    let minus = value.parse::<Option<Token![-]>>()?.map_or("", |_| "-");
    let literal = value.parse::<Lit>()?;
    let text = match &literal {
        Lit::Str(text) => text.value(),
        Lit::Int(number) => number.base10_digits().to_owned(),
        Lit::Float(number) => number.base10_digits().to_owned(),
        Lit::Bool(yes) => yes.value.to_string(),
        _ => return Err(Error::new_spanned(&literal, "a default is a text, a number, true, false or a constant")),
    };
    Ok(Default::Literal(LitStr::new(&format!("{minus}{text}"), literal.span())))
}

/// `["a", "b"]`.
fn texts(meta: &ParseNestedMeta<'_>) -> Result<Vec<LitStr>> {
    let value = meta.value()?;
    let list;
    bracketed!(list in value);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(code: &str) -> String {
        expand(&syn::parse_str(code).unwrap()).unwrap().to_string().replace(' ', "")
    }

    fn error(fields: &str) -> String {
        expand(&syn::parse_str(&format!("struct Config {{ {fields} }}")).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_field_is_declared_with_the_kind_of_its_type_or_the_one_above_it() {
        let code = expanded(
            "struct Config {
                /// the page
                #[url(default = \"http://localhost/\")] url: String,
                token: Option<Secret>,
                tls_skip_verify: bool,
                #[port(of = host, default = 80)] port: u16,
                #[host] host: String,
                names: Vec<String>,
                #[setting(default = crate::SIZE)] size: u8,
            }",
        );
        for declared in [
            "Setting::url(\"url\").default(\"http://localhost/\").help(\"thepage\")",
            "Setting::secret(\"token\"),",
            "Setting::boolean(\"tls-skip-verify\").required()",
            "Setting::port(\"port\").of_host(\"host\").default(\"80\")",
            "Setting::host(\"host\").required()",
            "Setting::text(\"names\").repeatable(),",
            "Setting::integer(\"size\").default(crate::SIZE)]",
        ] {
            assert!(code.contains(declared), "{declared} is not in {code}");
        }
    }

    #[test]
    fn the_help_is_the_first_paragraph_of_the_doc_comment_without_its_full_stop() {
        let input = syn::parse_str::<DeriveInput>(
            "struct C {\n/// how long\n/// to wait.\n///\n/// Not for the operator.\n#[setting(default = \"5s\")] wait: Duration }",
        );
        let code = expand(&input.unwrap()).unwrap().to_string();
        assert!(code.contains("help (\"how long to wait\")"), "{code}");
    }

    #[test]
    fn a_field_that_cannot_be_a_setting_is_named_with_the_cure() {
        for (fields, expected) in [
            (
                "#[secret] token: Option<String>",
                "setting `token`: the plugin gets a handle of a secret, not its text: make its type `Secret`",
            ),
            ("#[text] token: Secret", "setting `token`: a `Secret` is of kind secret: remove the other kind"),
            (
                "#[setting(default = 1)] count: Option<u32>",
                "setting `count`: with a default it is never missing: remove the `Option` or the default",
            ),
            ("#[host] #[text] a: String", "setting `a`: it has two kinds, `host` and `text`: keep one"),
            ("mode: Mode", "setting `mode`: its type has no kind of its own: write one above the field, of #[text]"),
            ("#[url(defualt = \"x\")] url: String", "unknown word of setting `url`: valid are `default`, `key`"),
            (
                "#[port(of = hots)] port: u16, #[host] host: String",
                "setting `port`: it is `of` `hots`, which is not a field of kind host: there is `host`",
            ),
            (
                "#[duration(default = 5)] wait: Duration",
                "setting `wait`: its default \"5\" is invalid: write one like \"500ms\"",
            ),
            (
                "#[text(default = \"c\", one_of = [\"a\", \"b\"])] mode: String",
                "setting `mode`: its default \"c\" is invalid: write \"a\", \"b\"",
            ),
            ("#[integer(one_of = [\"1\"])] count: u32", "setting `count`: only a text is one of several"),
            ("#[text(key = \"Name\")] name: String", "setting `name`: its key \"Name\" is invalid"),
            (
                "a_b: String, #[text(key = \"a-b\")] other: String",
                "setting `other`: its key `a-b` is another field's, too",
            ),
            (
                "#[tls_mode(aliases = [\"require\"])] mode: String",
                "setting `mode`: an alias is a word and what it means",
            ),
        ] {
            let why = error(fields);
            assert!(why.starts_with(expected), "{fields}: {why}");
        }
        for code in ["enum Config { A }", "struct Config(String);", "struct Config;"] {
            let why = expand(&syn::parse_str(code).unwrap()).unwrap_err().to_string();
            assert!(why.starts_with("`Config` is not a struct with named fields: make it one"), "{code}: {why}");
        }
    }

    #[test]
    fn what_cannot_be_settings_is_settings_beside_its_error() {
        for code in ["struct Config { #[url(defualt = \"x\")] url: String }", "enum Config { A }", "struct Config;"] {
            let input = syn::parse_str::<DeriveInput>(code).unwrap();
            let stub = stub(&input, &expand(&input).unwrap_err()).to_string().replace([' ', '\n'], "");
            assert!(stub.starts_with("::core::compile_error!{"), "{stub}");
            assert!(stub.contains("::wasaba_plugin::FromSettingsforConfig{fndeclared()"), "{stub}");
        }
    }

    #[test]
    fn every_kind_of_the_contract_can_be_written_above_a_field() {
        for kind in KINDS {
            let (of_type, optional) = if kind == "secret" { ("Secret", "") } else { ("String", "") };
            let code = expanded(&format!("struct C {{ #[{kind}{optional}] a: {of_type} }}"));
            assert!(code.contains(&format!("Setting::{kind}(\"a\").required()")), "{code}");
        }
    }
}
