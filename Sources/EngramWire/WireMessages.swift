internal import NIOCore
internal import NIOHTTP1

/// One header field; names compare without regard to case.
package struct WireHeader: Sendable, Hashable {
  package var name: String
  package var value: String

  package init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

/// A request to whatever endpoint a client has. `host` and `content-length` are added.
package struct WireRequest: Sendable {
  package var method: String
  /// Path and query in the form of the request line, percent-encoded.
  package var path: String
  package var headers: [WireHeader]
  package var body: [UInt8]

  package init(_ method: String, _ path: String, headers: [WireHeader] = [], body: [UInt8] = []) {
    self.method = method
    self.path = path
    self.headers = headers
    self.body = body
  }

  /// Whether sending it twice has the effect of sending it once, RFC 9110 section 9.2.2.
  var isIdempotent: Bool {
    ["DELETE", "GET", "HEAD", "OPTIONS", "PUT"].contains(method)
  }

  /// The request head, unless a part could be read as something else than it is (RFC 9112 section 11.1).
  func head(authority: String) throws(WireError) -> HTTPRequestHead {
    guard Self.isToken(method), path.utf8.first == UInt8(ascii: "/"),
      path.utf8.allSatisfy({ (0x21...0x7e).contains($0) }),
      headers.allSatisfy({ Self.isToken($0.name) && Self.isFieldValue($0.value) })
    else { throw .invalidRequest }
    var fields = HTTPHeaders(headers.map { ($0.name, $0.value) })
    guard !fields.contains(name: "content-length"), !fields.contains(name: "transfer-encoding") else {
      throw .invalidRequest
    }
    if !fields.contains(name: "host") { fields.add(name: "host", value: authority) }
    if !body.isEmpty || ["PATCH", "POST", "PUT"].contains(method) {
      fields.add(name: "content-length", value: String(body.count))
    }
    return HTTPRequestHead(
      version: .http1_1, method: HTTPMethod(rawValue: method), uri: path, headers: fields)
  }

  /// RFC 9110 section 5.6.2.
  private static func isToken(_ text: String) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
      }
  }

  /// RFC 9110 section 5.5.
  private static func isFieldValue(_ text: String) -> Bool {
    text.utf8.allSatisfy { $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7f) }
  }
}

/// A complete answer.
package struct WireResponse: Sendable {
  package var status: Int
  package var headers: [WireHeader]
  package var body: [UInt8]

  package init(status: Int, headers: [WireHeader] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// The first field of that name.
  package func header(_ name: String) -> String? {
    let wanted = name.lowercased()
    return headers.first { $0.name.lowercased() == wanted }?.value
  }
}

/// Puts the parts of one response together, within a bound.
struct ResponseAssembly {
  enum Step {
    case failed(WireError)
    case finished(WireResponse, keepsAlive: Bool)
    case unfinished
  }

  let bytesMax: Int
  private var head: HTTPResponseHead?
  private var body: [UInt8] = []

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  /// Whether anything came at all; a server that said something may have acted.
  var hasBegun: Bool { head != nil }

  mutating func take(_ part: HTTPClientResponsePart) -> Step {
    switch part {
    case .head(let head):
      self.head = head
      guard let length = head.headers.first(name: "content-length").flatMap(Int.init) else {
        return .unfinished
      }
      guard length <= bytesMax else { return .failed(.tooLarge(limitBytes: bytesMax)) }
    case .body(let bytes):
      guard body.count + bytes.readableBytes <= bytesMax else {
        return .failed(.tooLarge(limitBytes: bytesMax))
      }
      body.append(contentsOf: bytes.readableBytesView)
    case .end:
      guard let head else { return .failed(.protocolViolation) }
      let headers = head.headers.map { WireHeader($0.name, $0.value) }
      let response = WireResponse(status: Int(head.status.code), headers: headers, body: body)
      return .finished(response, keepsAlive: head.isKeepAlive)
    }
    return .unfinished
  }
}
