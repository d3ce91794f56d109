import Foundation
import Testing

/// The system's `openssl` binary: the other implementation in these tests.
final class OpenSSLTool {
  private let process = Process()
  private let input = Pipe()
  private let outputPath: String

  init(_ arguments: [String], in pki: TestPKI) throws {
    outputPath = pki.path(UUID().uuidString + ".out")
    try Data().write(to: URL(fileURLWithPath: outputPath))
    let output = try #require(FileHandle(forWritingAtPath: outputPath))
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = arguments
    process.standardInput = input
    process.standardOutput = output
    process.standardError = output
    try process.run()
  }

  deinit { if process.isRunning { process.terminate() } }

  var output: String { (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? "" }
  var hasExited: Bool { !process.isRunning }

  func type(_ text: String) { try? input.fileHandleForWriting.write(contentsOf: Data(text.utf8)) }
  func endInput() { try? input.fileHandleForWriting.close() }

  func prints(_ text: String) async -> Bool {
    await eventually { output.contains(text) || hasExited } && output.contains(text)
  }
}
