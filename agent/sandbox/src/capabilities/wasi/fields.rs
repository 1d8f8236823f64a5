//! `wasi:http/types`, its fields: the headers of a request or a response.

use wasmtime::Result;
use wasmtime::component::Resource;

use super::View;
use super::contract::http::types::{self as contract, HeaderError};
use crate::capabilities::http::{
    HEADER_BYTES, MOST_HEADER_BYTES, MOST_HEADERS, MOST_WORD_BYTES, header, is_of_connection,
};
use crate::capabilities::memory::Share;

/// The one header of the connection that a library may set, since many do: it is compared with the body, and the agent sends its own.
pub(super) const CONTENT_LENGTH: &str = "content-length";

/// Headers; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
#[derive(Debug)]
pub struct Fields {
    /// Names in lower case.
    pub(super) entries: Vec<(String, Vec<u8>)>,
    is_mutable: bool,
    /// Of the memory limit: of all of them.
    share: Share,
}

impl Fields {
    pub(super) fn new(share: Share) -> Self {
        Self { entries: Vec::new(), is_mutable: true, share }
    }

    /// Those of a response.
    pub(super) fn of_response(entries: Vec<(String, Vec<u8>)>, mut share: Share) -> Result<Self> {
        share.resize(bytes(&entries))?;
        Ok(Self { entries, is_mutable: false, share })
    }

    /// Those of a request, which nothing changes any more.
    pub(super) fn fixed(self) -> Self {
        Self { is_mutable: false, ..self }
    }

    /// The same with a share of its own.
    pub(super) fn copied(&self, share: Share, is_mutable: bool) -> Result<Self> {
        Ok(Self { is_mutable, ..Self::of_response(self.entries.clone(), share)? })
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Vec<u8>> {
        // Compares no text of another length: a plugin may ask for megabytes.
        self.entries.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn checked(&self, name: &str, value: &[u8]) -> Result<(String, Vec<u8>), HeaderError> {
        if !self.is_mutable {
            return Err(HeaderError::Immutable);
        }
        if name.len() > MOST_WORD_BYTES || value.len() > MOST_HEADER_BYTES {
            return Err(HeaderError::InvalidSyntax);
        }
        let name = name.to_ascii_lowercase();
        if name == CONTENT_LENGTH {
            return Ok((name, value.to_vec()));
        }
        if is_of_connection(&name) {
            return Err(HeaderError::Forbidden);
        }
        match header(&name, value) {
            Ok(_) => Ok((name, value.to_vec())),
            Err(_) => Err(HeaderError::InvalidSyntax),
        }
    }

    fn append(&mut self, name: &str, value: &[u8]) -> Result<Result<(), HeaderError>> {
        let entry = match self.checked(name, value) {
            Ok(entry) => entry,
            Err(error) => return Ok(Err(error)),
        };
        let bytes = bytes(&self.entries).saturating_add(of_entry(&entry));
        if self.entries.len() >= MOST_HEADERS || bytes > MOST_HEADER_BYTES.saturating_add(MOST_HEADERS * HEADER_BYTES) {
            return Ok(Err(HeaderError::Forbidden));
        }
        self.share.resize(bytes)?;
        self.entries.push(entry);
        Ok(Ok(()))
    }

    fn remove(&mut self, name: &str) -> Result<(), HeaderError> {
        if !self.is_mutable {
            return Err(HeaderError::Immutable);
        }
        self.entries.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        Ok(())
    }
}

fn of_entry((name, value): &(String, Vec<u8>)) -> usize {
    name.len().saturating_add(value.len()).saturating_add(HEADER_BYTES)
}

fn bytes(entries: &[(String, Vec<u8>)]) -> usize {
    entries.iter().map(of_entry).fold(0, usize::saturating_add)
}

/// What a function returns: the outer error ends the call.
type Answer<T> = Result<Result<T, HeaderError>>;

impl View<'_> {
    fn fields(&mut self, fields: &Resource<Fields>) -> Result<&mut Fields> {
        Ok(self.table.get_mut(fields)?)
    }
}

impl contract::HostFields for View<'_> {
    fn new(&mut self) -> Result<Resource<Fields>> {
        let share = self.connections.budget.hold(0)?;
        Ok(self.table.push(Fields::new(share))?)
    }

    fn from_list(&mut self, entries: Vec<(String, Vec<u8>)>) -> Answer<Resource<Fields>> {
        let mut fields = Fields::new(self.connections.budget.hold(0)?);
        if entries.len() > MOST_HEADERS {
            return Ok(Err(HeaderError::Forbidden));
        }
        for (name, value) in entries {
            if let Err(error) = fields.append(&name, &value)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(self.table.push(fields)?))
    }

    fn get(&mut self, fields: Resource<Fields>, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(self.fields(&fields)?.values(&name).cloned().collect())
    }

    fn has(&mut self, fields: Resource<Fields>, name: String) -> Result<bool> {
        Ok(self.fields(&fields)?.values(&name).next().is_some())
    }

    fn set(&mut self, fields: Resource<Fields>, name: String, values: Vec<Vec<u8>>) -> Answer<()> {
        let fields = self.fields(&fields)?;
        // Before each is looked at, which takes time.
        if values.len() > MOST_HEADERS {
            return Ok(Err(HeaderError::Forbidden));
        }
        let checked = values.iter().try_for_each(|value| fields.checked(&name, value).map(drop));
        if let Err(error) = checked.and_then(|()| fields.remove(&name)) {
            return Ok(Err(error));
        }
        for value in values {
            if let Err(error) = fields.append(&name, &value)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn delete(&mut self, fields: Resource<Fields>, name: String) -> Answer<()> {
        Ok(self.fields(&fields)?.remove(&name))
    }

    fn append(&mut self, fields: Resource<Fields>, name: String, value: Vec<u8>) -> Answer<()> {
        self.fields(&fields)?.append(&name, &value)
    }

    fn entries(&mut self, fields: Resource<Fields>) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(self.fields(&fields)?.entries.clone())
    }

    fn clone(&mut self, fields: Resource<Fields>) -> Result<Resource<Fields>> {
        let share = self.connections.budget.hold(0)?;
        let copy = self.fields(&fields)?.copied(share, true)?;
        Ok(self.table.push(copy)?)
    }

    fn drop(&mut self, fields: Resource<Fields>) -> Result<()> {
        self.table.delete(fields)?;
        Ok(())
    }
}
