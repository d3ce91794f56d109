import EngramCore
import Foundation
import TestSupport
import Testing

@Suite("Error registry")
struct ErrorRegistryTests {
  @Test("docs/protocol/errors.md lists exactly the registry, row by row")
  func documentation() throws {
    let text = String(decoding: try repositoryData("docs/protocol/errors.md"), as: UTF8.self)
    let rows = text.split(separator: "\n").filter {
      $0.hasPrefix("| ") && $0.dropFirst(2).first?.isNumber == true
    }
    let expected = ErrorCode.allCases.map { code in
      "| \(code.rawValue) | \(code.name) | \(code.fault.rawValue) | "
        + "\(code.isRetryable ? "yes" : "no") | \(code.sentence) |"
    }
    #expect(rows.count == expected.count)
    for (row, want) in zip(rows, expected) { #expect(row == want) }
  }

  @Test("names are unique, lower-case words joined by hyphens")
  func names() {
    let names = ErrorCode.allCases.map(\.name)
    #expect(Set(names).count == names.count)
    for name in names {
      #expect(name.utf8.allSatisfy { (97...122).contains($0) || $0 == 45 }, "\(name)")
      #expect(!name.hasPrefix("-") && !name.hasSuffix("-") && !name.contains("--"))
    }
    #expect(ErrorCode.messageIDReused.name == "message-id-reused")
    #expect(ErrorCode.helloSkew.name == "hello-skew")
  }

  @Test("every code has a sentence in the house form, and every codec error a code of the first group")
  func sentences() {
    for code in ErrorCode.allCases {
      #expect(!code.sentence.isEmpty && !code.sentence.hasSuffix("."))
      #expect(code.sentence.first?.isLowercase == true)
    }
    let codec: [CodecError] = [
      .criticalExtension, .nonCanonical, .tooLarge, .trailingBytes, .truncated, .unknownSuite, .unknownValue,
      .wrongLength,
    ]
    for error in codec { #expect((100..<200).contains(error.code.rawValue)) }
  }
}
