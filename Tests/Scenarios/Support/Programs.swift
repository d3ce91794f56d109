import Foundation
import TestSupport

/// The programs of this package as they were built with the tests.
enum Program: String {
  case client = "engram"
  case demo = "engram-demo"
  case node = "engram-node"

  /// Beside the test bundle, which is an executable of the same build.
  var path: String {
    let bundle = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    let beside = bundle.appendingPathComponent(rawValue).path
    if FileManager.default.isExecutableFile(atPath: beside) { return beside }
    return Self.repository.appendingPathComponent(".build/debug/\(rawValue)").path
  }

  static let repository = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Runs the program to its end.
  func run(
    _ arguments: [String], environment: [String: String] = [:], input: String? = nil
  ) async throws -> Finished {
    try await runToEnd(path, arguments, environment: environment, input: input)
  }
}

private func runToEnd(
  _ program: String, _ arguments: [String], environment: [String: String], input: String?
) async throws -> Finished {
  let directory = try TemporaryDirectory()
  if let input { try Data(input.utf8).write(to: URL(fileURLWithPath: directory.file("in"))) }
  let child = try ChildProcess(
    program, arguments, log: directory.file("run"), environment: environment,
    input: input == nil ? "/dev/null" : directory.file("in"))
  guard let exit = await child.end() else {
    throw Unexpected("\(program) \(arguments.first ?? "") did not end")
  }
  return Finished(exit: exit, output: child.output, errors: child.errors)
}

/// Runs any program of the system to its end.
@discardableResult
func runTool(_ path: String, _ arguments: [String], input: String? = nil) async throws -> Finished {
  try await runToEnd(path, arguments, environment: [:], input: input)
}

/// What a program left behind.
struct Finished: Sendable {
  let exit: ChildProcess.Exit
  let output: String
  let errors: String

  var succeeded: Bool { exit == .code(0) }

  /// Its standard output, for steps that must work.
  func expected() throws -> String {
    guard succeeded else { throw Unexpected("ended with \(exit): \(errors)") }
    return output
  }

  func json<Answer: Decodable>(_: Answer.Type = Answer.self) throws -> Answer {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Answer.self, from: Data(try expected().utf8))
  }
}

/// A step on the way to what a test is about did not work.
struct Unexpected: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
