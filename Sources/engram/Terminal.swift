internal import Foundation
internal import Glibc

/// What is said to a person, and asked of one.
enum Terminal {
  /// To standard error, so that standard output stays what the command was asked for.
  static func note(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

  /// Writes to standard output and fails if nobody takes it: what was not written must not be acknowledged.
  static func write(_ text: String) throws {
    let bytes = Array(text.utf8)
    var offset = 0
    while offset < bytes.count {
      let count = bytes[offset...].withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        throw CommandFailure(
          .failed, name: "output", "standard output cannot be written: nothing was acknowledged for it")
      }
      offset += count
    }
  }

  /// Asks without echo.
  static func ask(_ prompt: String) throws -> String {
    guard isatty(STDIN_FILENO) == 1 else {
      throw CommandFailure(
        .usage, name: "no-terminal", "there is no terminal to ask for the passphrase on",
        hint: "set ENGRAM_PASSPHRASE_FILE, or give --passphrase-file")
    }
    FileHandle.standardError.write(Data(prompt.utf8))
    var settings = termios()
    tcgetattr(STDIN_FILENO, &settings)
    let original = settings
    settings.c_lflag &= ~tcflag_t(ECHO)
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
    defer {
      var original = original
      tcsetattr(STDIN_FILENO, TCSAFLUSH, &original)
      note("")
    }
    guard let line = readLine(strippingNewline: true) else {
      throw CommandFailure(.usage, name: "passphrase-empty", "no passphrase was given")
    }
    return line
  }

  /// Text of others for a terminal: control characters, which could move the cursor or recolour what was
  /// shown before, become visible escapes. Line ends and tabs stay.
  static func printable(_ text: some StringProtocol) -> String {
    var out = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      let isControl = scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
      let isDirectional = (0x202a...0x202e).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
      if (isControl && scalar != "\n" && scalar != "\t") || isDirectional {
        out.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
      } else {
        out.append(scalar)
      }
    }
    return String(out)
  }
}
