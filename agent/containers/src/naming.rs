//! Names: the name of a container in its metrics, in the seven forms of the official plugin.

use wasaba_core::sample::segment;

use super::answers::Summary;

/// The form of a container's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// Its name.
    #[default]
    Name,
    /// Its name and the first six digits of its id: the official plugin's default.
    NameId,
    /// Its id, all 64 digits.
    Id,
    /// Its image.
    Image,
    /// Its image and the first six digits of its id.
    ImageId,
    /// Its image and its name.
    ImageName,
    /// The value of this label.
    Label(String),
}

/// A container's id, name, image and labels, as the engine has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// All its hexadecimal digits.
    pub id: String,
    /// The first of its names, without the leading `/` of the engine.
    pub name: String,
    /// Its other names, which it has where other containers link to it: `proxy/web`.
    pub aliases: Vec<String>,
    /// By the name that it was started with: `nginx:1.27`.
    pub image: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
}

impl Identity {
    /// Of an entry of the engine's list.
    #[must_use]
    pub fn of(summary: Summary) -> Self {
        let names = summary.names.unwrap_or_default().into_iter();
        let mut names = names.map(|name| name.strip_prefix('/').unwrap_or(&name).to_owned());
        Self {
            id: summary.id,
            name: names.next().unwrap_or_default(),
            aliases: names.collect(),
            image: summary.image.unwrap_or_default(),
            labels: summary.labels.unwrap_or_default().into_iter().collect(),
        }
    }
}

impl Naming {
    /// The word of each form, in the order in which messages list them.
    pub const WORDS: [&str; 7] = ["name", "name_id", "id", "image", "image_id", "image_name", "label"];

    /// Reads one of [`Naming::WORDS`]; `label` belongs to the last one.
    ///
    /// # Errors
    /// An unknown word, or no label; as the predicate of a sentence.
    pub fn parse(word: &str, label: &str) -> Result<Self, String> {
        Ok(match word {
            "name" => Self::Name,
            "name_id" => Self::NameId,
            "id" => Self::Id,
            "image" => Self::Image,
            "image_id" => Self::ImageId,
            "image_name" => Self::ImageName,
            "label" if label.is_empty() => return Err("is \"label\", but `label` is missing".to_owned()),
            "label" => Self::Label(label.to_owned()),
            _ => return Err(format!("must be one of {}", Self::WORDS.join(", "))),
        })
    }

    /// The container's name as one segment of a metric's name. `None` if the container lacks it.
    #[must_use]
    pub fn of(&self, container: &Identity) -> Option<String> {
        let Identity { id, name, aliases: _, image, labels } = container;
        let short = id.get(..6).unwrap_or(id);
        let text = match self {
            Self::Name => name.clone(),
            Self::NameId => format!("{name}_{short}"),
            Self::Id => id.clone(),
            Self::Image => image.clone(),
            Self::ImageId => format!("{image}_{short}"),
            Self::ImageName => format!("{image}_{name}"),
            Self::Label(label) => labels.iter().find(|(key, _)| key == label)?.1.clone(),
        };
        Some(segment(&text)).filter(|key| !key.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seven_forms_are_those_of_the_official_plugin() {
        let labels = vec![("foo".to_owned(), "bar".to_owned()), ("path".to_owned(), "foo/bar:baz".to_owned())];
        let container = Identity {
            id: "bab2b03c736de41ecba6470eba736c7109436f706eedca4f3e0d93d6530eccd7".into(),
            name: "my-mongodb".into(),
            image: "tutum/mongodb".into(),
            labels,
            ..Identity::default()
        };
        for (word, expected) in [
            ("name_id", "my-mongodb_bab2b0"),
            ("name", "my-mongodb"),
            ("id", &container.id),
            ("image", "tutum_mongodb"),
            ("image_id", "tutum_mongodb_bab2b0"),
            ("image_name", "tutum_mongodb_my-mongodb"),
        ] {
            assert_eq!(Naming::parse(word, "").unwrap().of(&container).as_deref(), Some(expected), "{word}");
        }
        let by = |label| Naming::parse("label", label).unwrap().of(&container);
        assert_eq!(by("foo").as_deref(), Some("bar"));
        assert_eq!(by("path").as_deref(), Some("foo_bar_baz"));
        assert_eq!(by("absent"), None, "a container without the label has no metrics");
    }

    #[test]
    fn an_unknown_form_is_refused_with_the_valid_ones() {
        assert!(Naming::parse("nmae", "").unwrap_err().contains("name_id, id, image"));
        assert!(Naming::parse("label", "").unwrap_err().contains("`label` is missing"));
    }
}
