import HTTPTypes
import NIOHTTP1

/// Reads `Authorization: Bearer …` (RFC 6750 section 2.1) strictly: exactly one field, the scheme in any
/// case, one space, `b64token` characters only, and no more than `HTTPLimits.bearerBytesMax` bytes.
func bearerToken(_ fields: [String]) -> String? {
  guard fields.count == 1, let field = fields.first?.utf8 else { return nil }
  let scheme = "bearer "
  guard field.count > scheme.utf8.count, field.count <= HTTPLimits.bearerBytesMax,
    zip(field, scheme.utf8).allSatisfy({ lowercase($0) == $1 })
  else { return nil }
  let token = field.dropFirst(scheme.utf8.count)
  guard token.allSatisfy(isTokenByte) else { return nil }
  return String(token)
}

func bearerToken(_ headers: HTTPFields) -> String? { bearerToken(headers[values: .authorization]) }

func bearerToken(_ headers: HTTPHeaders) -> String? { bearerToken(headers["authorization"]) }

private func lowercase(_ byte: UInt8) -> UInt8 {
  (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
}

private func isTokenByte(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
    UInt8(ascii: "~"), UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="):
    true
  default: false
  }
}
