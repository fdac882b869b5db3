/// The largest difference of two lists, element by element.
///
/// Infinite where the lists are empty or of different lengths, or where a difference is no number (that of two equal
/// infinities, too): `zip` and `max` would pass over these.
package func largestDifference<Value: BinaryFloatingPoint>(_ a: [Value], _ b: [Value]) -> Value {
  guard a.count == b.count, !a.isEmpty else { return .infinity }
  var largest: Value = 0
  for (x, y) in zip(a, b) {
    let difference = abs(x - y)
    guard !difference.isNaN else { return .infinity }
    largest = max(largest, difference)
  }
  return largest
}

/// The same of lists of rows.
package func largestDifference<Value: BinaryFloatingPoint>(_ a: [[Value]], _ b: [[Value]]) -> Value {
  guard a.count == b.count, !a.isEmpty else { return .infinity }
  return zip(a, b).reduce(0) { max($0, largestDifference($1.0, $1.1)) }
}
