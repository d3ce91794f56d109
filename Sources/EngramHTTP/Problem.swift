package import EngramCore
import FoundationEssentials
package import HTTPTypes
import NIOCore

/// A request that failed, as an RFC 9457 problem document: numbers and fixed sentences, never anyone's data.
package struct Problem: Error, Equatable, Sendable {
  package var code: ErrorCode
  package var status: HTTPResponse.Status
  /// Overrides `ErrorCode.hint`.
  package var hint: String?
  /// What is wrong in this very case (RFC 9457 section 3.1.4); on the administration's socket only, where it
  /// may name what the administrator typed.
  package var detail: String?

  package init(
    _ code: ErrorCode, status: HTTPResponse.Status? = nil, hint: String? = nil, detail: String? = nil
  ) {
    (self.code, self.status, self.detail) = (code, status ?? code.httpStatus, detail)
    self.hint = hint ?? (detail == nil ? code.hint : nil)
  }

  static let contentType = "application/problem+json"

  package var body: [UInt8] {
    jsonBytes(
      Document(
        type: "urn:engram:error:\(code.name)", title: code.sentence, status: status.code, code: code.rawValue,
        name: code.name, hint: hint, detail: detail))
  }

  /// The header fields of the response, without length and date.
  var headers: HTTPFields {
    var headers: HTTPFields = [.contentType: Self.contentType, .cacheControl: "no-store"]
    switch status {
    case .unauthorized: headers[.wwwAuthenticate] = "Bearer"
    case .serviceUnavailable, .tooManyRequests: headers[.retryAfter] = "1"
    // The rest of the body is not worth reading.
    case .contentTooLarge: headers[.connection] = "close"
    default: break
    }
    return headers
  }

  private struct Document: Encodable {
    let type: String
    let title: String
    let status: Int
    let code: UInt16
    let name: String
    let hint: String?
    let detail: String?
  }
}

/// Stable key order, so that answers can be compared byte for byte.
func jsonBytes(_ value: some Encodable) -> [UInt8] {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  // Only types of this module come here, and none of them can fail to encode.
  guard let data = try? encoder.encode(value) else { return Array("{}".utf8) }
  return Array(data)
}
