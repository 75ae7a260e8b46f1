//! PostgreSQL's messages: what a client may send, as bytes, and what a server says, as short text that a test can compare.
//!
//! ```text
//! 1 2 3 n s I c     ParseComplete, BindComplete, CloseComplete, NoData, PortalSuspended, EmptyQueryResponse, CopyDone
//! T(a,b) D(7,null)  RowDescription with the columns' names, DataRow
//! C(SELECT 1) Z(I)  CommandComplete, ReadyForQuery
//! E(26000: text)    ErrorResponse; N(…) NoticeResponse; F(…) a FATAL one
//! S(name=value)     ParameterStatus; A(channel,payload) NotificationResponse; t(23,25) ParameterDescription
//! G H d(text) V(x)  CopyInResponse, CopyOutResponse, CopyData, FunctionCallResponse
//! ```

/// A message of the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl Message {
    /// The whole first message of `bytes` and its length; `None`: more is needed.
    pub(crate) fn first(bytes: &[u8]) -> Option<(Self, usize)> {
        let header = bytes.get(1..5)?;
        let length = 1 + usize::try_from(i32::from_be_bytes(header.try_into().unwrap())).unwrap();
        let body = bytes.get(5..length)?.to_vec();
        Some((Self { kind: bytes[0], body }, length))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        message(self.kind, &[&self.body])
    }

    /// As in the table above.
    pub(crate) fn text(&self) -> String {
        let body = &self.body;
        let list = |items: Vec<String>| format!("{}({})", char::from(self.kind), items.join(","));
        match self.kind {
            b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' | b'G' | b'H' | b'W' => char::from(self.kind).to_string(),
            b'E' | b'N' => {
                let kind = if self.field(b'V').is_some_and(|severity| severity == "FATAL") { 'F' } else { char::from(self.kind) };
                format!("{kind}({}: {})", self.field(b'C').unwrap_or_default(), self.field(b'M').unwrap_or_default())
            }
            b'D' => list(self.values().iter().map(|value| value.as_deref().map_or_else(|| "null".into(), show)).collect()),
            b'T' => list(self.columns()),
            b't' => list(body[2..].chunks(4).map(|oid| u32::from_be_bytes(oid.try_into().unwrap()).to_string()).collect()),
            b'S' => format!("S({})", strings(body).join("=")),
            b'A' => format!("A({})", strings(&body[4..]).join(",")),
            b'V' => format!("V({})", body.get(4..).filter(|value| !value.is_empty()).map_or_else(|| "null".into(), show)),
            b'C' => format!("C({})", strings(body).join(",")),
            kind => format!("{}({})", char::from(kind).escape_default(), show(body)),
        }
    }

    /// A field of an error or a notice.
    pub(crate) fn field(&self, wanted: u8) -> Option<String> {
        let mut fields = self.body.split(|byte| *byte == 0);
        fields.find_map(|field| {
            field.split_first().filter(|(kind, _)| **kind == wanted).map(|(_, text)| String::from_utf8_lossy(text).into())
        })
    }

    /// The values of a row.
    pub(crate) fn values(&self) -> Vec<Option<Vec<u8>>> {
        assert_eq!(self.kind, b'D', "not a row: {self:?}");
        let (mut rest, mut values) = (&self.body[2..], Vec::new());
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            values.push(length.map(|length| more[..length].to_vec()));
            rest = &more[length.unwrap_or(0)..];
        }
        values
    }

    fn columns(&self) -> Vec<String> {
        let (mut rest, mut names) = (&self.body[2..], Vec::new());
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            names.push(show(&rest[..end]));
            rest = &rest[end + 19..];
        }
        names
    }
}

fn strings(body: &[u8]) -> Vec<String> {
    body.strip_suffix(b"\0").unwrap_or(body).split(|byte| *byte == 0).map(show).collect()
}

/// Bytes for people, not too many.
fn show(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    if bytes.len() > 300 {
        return format!("{}…{} bytes", bytes[..20].escape_ascii(), bytes.len());
    }
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

pub(crate) fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = i32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), &body].concat()
}

/// A value that ends in a zero byte.
fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn count(items: usize) -> [u8; 2] {
    u16::try_from(items).unwrap().to_be_bytes()
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[&string(sql)])
}

pub(crate) fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let types: Vec<u8> = count(types.len()).into_iter().chain(types.iter().flat_map(|oid| oid.to_be_bytes())).collect();
    message(b'P', &[&string(name), &string(sql), &types])
}

/// With parameters in text, and rows in text.
pub(crate) fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|value| value.map(str::as_bytes)).collect();
    bind_formats(portal, statement, &[], &values, &[])
}

/// Formats: 0 text, 1 binary; none, one for all, or one each.
pub(crate) fn bind_formats(portal: &str, statement: &str, formats: &[u16], values: &[Option<&[u8]>], results: &[u16]) -> Vec<u8> {
    let mut body = [string(portal), string(statement), count(formats.len()).to_vec()].concat();
    formats.iter().for_each(|format| body.extend(format.to_be_bytes()));
    body.extend(count(values.len()));
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        body.extend(length.to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    body.extend(count(results.len()));
    results.iter().for_each(|format| body.extend(format.to_be_bytes()));
    message(b'B', &[&body])
}

/// `kind`: `S`tatement or `P`ortal.
pub(crate) fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[kind], &string(name)])
}

/// `kind`: `S`tatement or `P`ortal.
pub(crate) fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[&[kind], &string(name)])
}

/// `rows`: 0 for all.
pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[&string(portal), &rows.to_be_bytes()])
}

/// Parse, Bind, Execute of the unnamed statement and portal.
pub(crate) fn unnamed(sql: &str, values: &[Option<&str>]) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", values), execute("", 0)].concat()
}

/// Bind and Execute of a named statement in the unnamed portal.
pub(crate) fn run(statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    [bind("", statement, values), execute("", 0)].concat()
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', &[])
}

pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

pub(crate) fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', &[data])
}

pub(crate) fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

pub(crate) fn copy_fail(why: &str) -> Vec<u8> {
    message(b'f', &[&string(why)])
}

/// A call of a function by its OID, arguments and result in text.
pub(crate) fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = [&oid.to_be_bytes()[..], &count(0), &count(arguments.len())].concat();
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend(count(0));
    message(b'F', &[&body])
}

/// The first message: a version such as 0x30000, and parameters.
pub(crate) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(string(name));
        body.extend(string(value));
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &body].concat()
}

/// A request to cancel, on a connection of its own.
pub(crate) fn cancel(process: u32, secret: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + secret.len()).unwrap();
    [&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &process.to_be_bytes(), secret].concat()
}
