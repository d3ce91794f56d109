import EngramCore
import Foundation
import HTTPTypes
import HummingbirdCore
import Testing

@testable import EngramHTTP

@Suite("every failure has a status and a problem document")
struct ProblemTests {
  @Test("every code but none maps to an error status, none to 200")
  func statuses() {
    for code in ErrorCode.allCases {
      let status = code.httpStatus.code
      #expect(code == .none ? status == 200 : (400..<600).contains(status), "\(code)")
    }
    #expect(ErrorCode.tooLarge.httpStatus.code == 413)
    #expect(ErrorCode.unsupportedMedia.httpStatus.code == 415)
    #expect(ErrorCode.sessionExpired.httpStatus.code == 401)
    #expect(ErrorCode.tokenInvalid.httpStatus == ErrorCode.unknownDevice.httpStatus)
    #expect(ErrorCode.notFound.httpStatus.code == 404)
    #expect(ErrorCode.storageFull.httpStatus.code == 507)
  }

  @Test("what is the node's fault is 5xx, and what is the sender's is not")
  func faults() {
    for code in ErrorCode.allCases where code != .none {
      switch code.fault {
      case .node, .operator, .peer:
        #expect(code.httpStatus.code >= 500 || code == .idleTimeout, "\(code)")
      case .sender, .recipient, .none: #expect(code.httpStatus.code < 500, "\(code)")
      }
    }
  }

  @Test("the document has exactly the members of RFC 9457 that we use, in stable order")
  func document() throws {
    let text = String(decoding: Problem(.tooLarge).body, as: UTF8.self)
    #expect(
      text == #"{"code":101,"name":"too-large","status":413,"title":"something is larger than its limit","#
        + #""type":"urn:engram:error:too-large"}"#)
    let hinted = try #require(
      try JSONSerialization.jsonObject(with: Data(Problem(.sessionExpired).body)) as? [String: Any])
    #expect(hinted["hint"] as? String == ErrorCode.sessionExpired.hint)
    #expect(hinted["status"] as? Int == 401)
  }

  @Test("headers say what the status needs: a challenge, when to come back, that the connection ends")
  func headers() {
    #expect(Problem(.sessionExpired).headers[.wwwAuthenticate] == "Bearer")
    #expect(Problem(.overloaded).headers[.retryAfter] == "1")
    #expect(Problem(.tooLarge).headers[.connection] == "close")
    #expect(Problem(.notFound).headers[.wwwAuthenticate] == nil)
    #expect(Problem(.notFound).headers[.contentType] == "application/problem+json")
  }
}

@Suite("a bearer is read strictly")
struct BearerTests {
  @Test(
    "one field, one space, token characters", arguments: ["Bearer abc-._~+/=", "bearer ABC019", "BEARER x"])
  func accepted(field: String) {
    #expect(bearerToken([field]) == String(field.dropFirst(7)))
  }

  @Test(
    "anything else is refused",
    arguments: [
      [], ["Bearer"], ["Bearer "], ["Bearer  x"], ["Bearer a b"], ["Basic abc"], ["Bearer a\u{e9}"],
      ["Bearer a,b"],
      ["Bearer a", "Bearer a"], ["xBearer abc"], ["Bearer " + String(repeating: "a", count: 2_048)],
    ])
  func refused(fields: [String]) {
    #expect(bearerToken(fields) == nil)
  }
}

@Suite("dates of responses")
struct HTTPDateTests {
  @Test(
    "match RFC 9110 and the calendar",
    arguments: [
      (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
      (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
      (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
    ] as [(UInt64, String)])
  func date(seconds: UInt64, text: String) {
    #expect(httpDate(seconds * 1_000 + 999) == text)
  }

  @Test("agree with Foundation on every 1,001st day of two centuries")
  func againstFoundation() {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = TimeZone(identifier: "UTC")
    formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
    for day in stride(from: 0, to: 73_000, by: 1_001) {
      let seconds = day * 86_400 + day
      #expect(
        httpDate(UInt64(seconds) * 1_000)
          == formatter.string(from: Date(timeIntervalSince1970: Double(seconds))))
    }
  }
}

@Suite("paths and queries")
struct PathTests {
  @Test("an address is read from a path, with a plain or an escaped at sign")
  func addresses() {
    #expect(address(inPath: "a@acme.example")?.text == "a@acme.example")
    #expect(address(inPath: "a%40acme.example")?.text == "a@acme.example")
    for wrong in ["a", "A@acme.example", "a%4@acme.example", "a%40b%40acme.example", ""] {
      #expect(address(inPath: wrong) == nil, "\(wrong)")
    }
  }

  @Test("only the realtime path of an address is one")
  func realtime() {
    #expect(realtimeAddress("/api/v1/agents/a@acme.example/realtime")?.text == "a@acme.example")
    #expect(realtimeAddress("/api/v1/agents/a@acme.example/realtime?x=1")?.text == "a@acme.example")
    for wrong in [
      "/api/v1/agents/a@acme.example/realtime/", "/api/v1/agents/a@acme.example/messages",
      "//api/v1/agents/a@acme.example/realtime", "/api/v2/agents/a@acme.example/realtime", "", "/",
      "http://x/api/v1/agents/a@acme.example/realtime",
    ] {
      #expect(realtimeAddress(wrong) == nil, "\(wrong)")
    }
  }

  @Test("numbers of a poll are lowered to their bounds, and nothing but numbers is taken")
  func polls() throws {
    let query = try PollQuery("/m?max=100000&wait=3600&after=7")
    #expect(query.maxCount == HTTPLimits.itemsPerReadMax)
    #expect(query.waitSeconds == HTTPLimits.pollSecondsMax)
    #expect(query.after == 7)
    #expect(try PollQuery("/m?lease=99999").lease == .seconds(43_200))
    #expect(try PollQuery("/m?lease=default").lease == .asConfigured)
    #expect(try PollQuery("/m") == PollQuery("/m?max=100&wait=0&after=0"))
    for wrong in [
      "max=0", "max=-1", "max=", "wait=x", "after=1.5", "after=99999999999999999999", "max=+3", "lease=0",
      "lease=", "lease=1&after=1", "lease=default&after=1", "lease=Default", "leases=1", "max=03", "wait=+1",
    ] {
      #expect(throws: Problem(.malformed)) { try PollQuery(.init("/m?" + wrong)) }
    }
  }
}
