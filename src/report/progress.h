// SPDX-License-Identifier: Apache-2.0
// How far a run is, on standard error: one line that is drawn over on a terminal, a line a case elsewhere. Colours only
// on a terminal, and not where NO_COLOR is set.
#pragma once

#include <string>

namespace triphase {

class ProgressLine {
 public:
  ProgressLine(int cases, double expected_s);

  // Case number `index` (from 0) is in `stage`, `fraction` of it done; expected_s of all cases before this one.
  void show(int index, const std::string& name, const std::string& stage, double fraction, double expected_before_s,
            double expected_case_s);
  // A case is over: its line stays.
  void finish(int index, const std::string& name, const std::string& outcome, bool good);
  void note(const std::string& text);

 private:
  void clear();

  int cases_;
  double expected_s_;
  double begin_s_;
  double shown_s_ = 0;
  bool terminal_;
  bool colour_;
  bool drawn_ = false;
};

}  // namespace triphase
