//! The result of a query: names of columns, and rows of text.

/// The result of one query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    /// As many values as columns, each; `None` is NULL.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// One row of the result.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl Rows {
    /// Each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }

    /// The first row; the result of every aggregate has one.
    pub(crate) fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }
}

impl<'a> Row<'a> {
    /// The text in a column; `None` if it is NULL or there is no such column.
    pub(crate) fn text(self, column: &str) -> Option<&'a str> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.values.get(index)?.as_deref()
    }

    /// The number in a column.
    pub(crate) fn number(self, column: &str) -> Option<f64> {
        self.text(column)?.parse().ok()
    }

    /// The boolean in a column, which PostgreSQL writes `t` or `f`.
    pub(crate) fn boolean(self, column: &str) -> Option<bool> {
        self.text(column).map(|text| text == "t")
    }
}

/// For unit tests: `rows(&["a", "b"], &[&["1", "NULL"]])`.
#[cfg(test)]
pub(crate) fn rows(columns: &[&str], rows: &[&[&str]]) -> Rows {
    let value = |text: &&str| (*text != "NULL").then(|| (*text).to_owned());
    Rows {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows.iter().map(|row| row.iter().map(value).collect()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_the_name_of_its_column_and_null_is_none() {
        let rows = rows(&["n", "b", "empty"], &[&["1.5", "t", "NULL"], &["x", "f", ""]]);
        let all = rows.iter().map(|row| (row.number("n"), row.boolean("b"), row.text("empty"))).collect::<Vec<_>>();
        assert_eq!(all, [(Some(1.5), Some(true), None), (None, Some(false), Some(""))]);
        assert_eq!(rows.first().and_then(|row| row.text("other")), None);
    }
}
