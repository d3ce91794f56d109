internal import ArgumentParser
internal import EngramClient
internal import Foundation
internal import Glibc

/// What every command takes.
struct CommonOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The folder with this client's keys and messages (default: $ENGRAM_HOME, or ~/.engram).",
      valueName: "dir"), completion: .directory)
  var home: String?

  @Flag(help: "Print JSON, one object per line, instead of text.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "File whose first line is the passphrase (default: $ENGRAM_PASSPHRASE_FILE, or ask).", valueName: "file"
    ), completion: .file())
  var passphraseFile: String?

  /// Without a slash at its end.
  var homePath: String {
    let environment = ProcessInfo.processInfo.environment
    var path = home ?? environment["ENGRAM_HOME"] ?? (environment["HOME"] ?? ".") + "/.engram"
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }

  /// Opens the home, asking for the passphrase if it has one.
  func open() throws -> EngramClient {
    let home = homePath
    let passphrase =
      try EngramClient.needsPassphrase(home: home) ? Passphrase(file: passphraseFile).existing() : nil
    return try EngramClient.open(home: home, passphrase: passphrase)
  }

  /// Opens the home, runs `body`, and closes it whatever happens.
  func withClient<T>(_ body: (EngramClient) async throws -> T) async throws -> T {
    let client = try open()
    do {
      let result = try await body(client)
      if let warning = await client.deviceListWarning(), !json { Terminal.note("warning: \(warning)") }
      await client.close()
      return result
    } catch {
      await client.close()
      throw error
    }
  }
}

/// Where a passphrase comes from: a file, or a person at a terminal, who is not shown what they type.
struct Passphrase {
  var file: String?

  private var path: String? { file ?? ProcessInfo.processInfo.environment["ENGRAM_PASSPHRASE_FILE"] }

  func existing() throws -> String {
    if let path { return try read(path) }
    return try Terminal.ask("passphrase: ")
  }

  /// For a new key file: asked for twice.
  func chosen() throws -> String {
    if let path { return try read(path) }
    let first = try Terminal.ask("passphrase for the new key file: ")
    guard try Terminal.ask("the same again: ") == first else {
      throw CommandFailure(.usage, name: "passphrases-differ", "the two passphrases differ")
    }
    guard !first.isEmpty else {
      throw CommandFailure(
        .usage, name: "passphrase-empty", "an empty passphrase protects nothing",
        hint: "--no-passphrase leaves the key file without one")
    }
    return first
  }

  private func read(_ path: String) throws -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else {
      throw CommandFailure(
        .usage, name: "passphrase-file", "the passphrase file \(path) \(systemSentence(errno))")
    }
    let handle = FileHandle(fileDescriptor: file, closeOnDealloc: true)
    let text = (try? handle.read(upToCount: 64 << 10)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    guard let line = text.split(separator: "\n", omittingEmptySubsequences: false).first, !line.isEmpty else {
      throw CommandFailure(
        .usage, name: "passphrase-file", "the first line of the passphrase file \(path) is empty")
    }
    return String(line)
  }
}
