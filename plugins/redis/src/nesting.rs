//! How deep a frame of Redis's protocol is nested, read before it is decoded: the decoder calls itself for each level.

/// Replies to our commands have one level, or two behind attributes.
const DEEPEST: usize = 16;

/// Whether the frame at the beginning of `bytes` has more than [`DEEPEST`] levels, as far as it has arrived.
pub(crate) fn is_too_deep(bytes: &[u8]) -> bool {
    // How many frames are missing in each of those that have begun.
    let mut open = Vec::<u64>::new();
    let mut rest = bytes;
    while open.len() <= DEEPEST {
        let Some((kind, number, behind)) = head(rest) else { return false };
        rest = behind;
        let inner = match kind {
            b'*' | b'~' | b'>' => number,
            b'%' => number.saturating_mul(2),
            // Attributes, and the frame that has them.
            b'|' => number.saturating_mul(2).saturating_add(1),
            b'$' | b'!' | b'=' => {
                let end = usize::try_from(number).unwrap_or(usize::MAX).saturating_add(2);
                let Some(behind) = rest.get(end..) else { return false };
                rest = behind;
                0
            }
            _ => 0,
        };
        if inner > 0 {
            open.push(inner);
            continue;
        }
        // The frame is complete, and so are those that it was the last of.
        while let Some(missing) = open.last_mut() {
            *missing = missing.saturating_sub(1);
            if *missing > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return false;
        }
    }
    true
}

/// The kind of a frame, the number on its line, and what follows that; 0 for what is not a count.
fn head(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let number = str::from_utf8(rest.get(..end)?).ok().and_then(|line| line.parse().ok());
    Some((*kind, number.unwrap_or(0), rest.get(end.saturating_add(2)..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_frame_of_many_levels_is_too_deep() {
        for (bytes, expected) in [
            ("*1\r\n".repeat(16), false),
            ("*1\r\n".repeat(17), true),
            ("%1\r\n+a\r\n".repeat(17), true),
            ("|1\r\n".repeat(17), true),
            ("*2\r\n:1\r\n".repeat(17), true),
            ("*100\r\n".to_owned() + &"*1\r\n:1\r\n".repeat(100), false),
            ("*1\r\n:1\r\n".repeat(100), false),
            ("$5\r\n*1\r\n*\r\n".repeat(100), false),
            ("*0\r\n".repeat(100), false),
            ("*-1\r\n".repeat(100), false),
            ("$99\r\n*1".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_too_deep(bytes.as_bytes()), expected, "{bytes:.80}");
        }
    }
}
