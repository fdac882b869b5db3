/// Sums and products of what files from outside say: the largest number stands for all that are too large.
extension UInt64 {
  public static func saturatingSum(_ terms: UInt64...) -> UInt64 {
    var result: UInt64 = 0
    for term in terms {
      let (sum, overflow) = result.addingReportingOverflow(term)
      result = overflow ? .max : sum
    }
    return result
  }

  public static func saturatingProduct(_ factors: UInt64...) -> UInt64 {
    var result: UInt64 = 1
    for factor in factors {
      let (product, overflow) = result.multipliedReportingOverflow(by: factor)
      result = overflow ? .max : product
    }
    return result
  }
}
