// SPDX-License-Identifier: Apache-2.0
// Results that survive: what is found again after a run was cut off, what is refused, and that a file is written whole
// or not at all.
#include "report/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "core/error.h"

namespace triphase {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;
namespace fs = std::filesystem;

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

std::string content(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(testing::TempDir()) / ("triphase_" + std::to_string(getpid()) + "_" + test->name());
    fs::create_directories(folder_);
    output_ = folder_ / "steps.json";
  }
  void TearDown() override { fs::remove_all(folder_); }

  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
  std::string output_;
  const Json run_ = {{"flags", "--batch=1"}, {"fingerprint", "abc"}};
  const Journal::Rows rows_ = {{{"name", "a/forward"}, {"median_s", 0.1}}, {{"name", "a/update"}, {"median_s", 1e-9}}};
};

class Journals : public Folder {};
class WriteAtomically : public Folder {};

TEST_F(Journals, rows_are_found_again_after_a_run_that_was_cut_off) {
  {
    Journal journal(output_, run_, false);
    EXPECT_EQ(journal.path(), output_ + ".journal");
    EXPECT_EQ(journal.find("a", 0), nullptr);
    journal.append("a", 0, rows_);
    journal.append("a", 1, {rows_[1]});
    journal.append("b", 0, {});
  }
  const Journal again(output_, run_, true);
  ASSERT_NE(again.find("a", 0), nullptr);
  EXPECT_EQ(*again.find("a", 0), rows_);
  EXPECT_EQ(*again.find("a", 1), Journal::Rows{rows_[1]});
  ASSERT_NE(again.find("b", 0), nullptr);
  EXPECT_TRUE(again.find("b", 0)->empty());
  EXPECT_EQ(again.find("b", 1), nullptr);
  EXPECT_EQ(again.find("c", 0), nullptr);
}

TEST_F(Journals, a_line_is_whole_in_the_file_once_append_returns) {
  Journal journal(output_, run_, false);
  journal.append("a", 0, rows_);
  const std::string text = content(journal.path());
  EXPECT_EQ(std::ranges::count(text, '\n'), 2);
  EXPECT_TRUE(text.ends_with("\n"));
  EXPECT_EQ(Json::parse(text.substr(text.find('\n')))["rows"], Json(rows_));
}

TEST_F(Journals, a_last_line_cut_off_loses_its_case_alone) {
  {
    Journal journal(output_, run_, false);
    journal.append("a", 0, rows_);
    journal.append("b", 0, rows_);
  }
  const std::string path = output_ + ".journal";
  for (const std::uintmax_t cut : {1, 2, 20}) fs::resize_file(path, fs::file_size(path) - cut);
  {
    Journal again(output_, run_, true);
    EXPECT_NE(again.find("a", 0), nullptr);
    EXPECT_EQ(again.find("b", 0), nullptr);
    again.append("b", 0, rows_);  // and the file is whole again
  }
  const Journal third(output_, run_, true);
  EXPECT_EQ(*third.find("a", 0), rows_);
  EXPECT_EQ(*third.find("b", 0), rows_);
}

TEST_F(Journals, an_unfinished_run_is_refused_unless_it_is_resumed) {
  { Journal(output_, run_, false).append("a", 0, rows_); }
  const std::string before = content(output_ + ".journal");
  EXPECT_THAT(refusal([&] { Journal(output_, run_, false); }), HasSubstr("that of an unfinished run; --resume"));
  EXPECT_EQ(content(output_ + ".journal"), before) << "and stays as it is";
}

TEST_F(Journals, a_run_of_other_flags_or_machine_is_refused) {
  { Journal(output_, run_, false).append("a", 0, rows_); }
  const std::string before = content(output_ + ".journal");
  const Json other = {{"flags", "--batch=2"}, {"fingerprint", "abc"}};
  EXPECT_THAT(refusal([&] { Journal(output_, other, true); }),
              HasSubstr("expected a journal of the same machine and flags, found another; run with its flags"));
  EXPECT_EQ(content(output_ + ".journal"), before);
}

TEST_F(Journals, a_file_of_something_else_is_refused_and_left_alone) {
  for (const char* text : {"", "hello\n", "[1, 2]\n", "{\"rows\": []}\n", "\xff\xfe\n", "{\"run\"\n"}) {
    for (const bool resume : {false, true}) {
      std::ofstream(output_ + ".journal") << text;
      EXPECT_THAT(refusal([&] { Journal(output_, run_, resume); }),
                  HasSubstr("expected a journal of this program, or no such file, found something else"))
          << text;
      EXPECT_EQ(content(output_ + ".journal"), text);
    }
  }
}

TEST_F(Journals, lines_that_are_no_entry_are_left_out) {
  { Journal(output_, run_, false).append("a", 0, rows_); }
  std::ofstream(output_ + ".journal", std::ios::app)
      << "\n[]\n{\"case\": \"x\", \"repetition\": 0}\n"
      << Json{{"case", "b"}, {"repetition", 0}, {"rows", rows_}}.dump() << "\n";
  const Journal journal(output_, run_, true);
  EXPECT_NE(journal.find("a", 0), nullptr);
  EXPECT_EQ(journal.find("x", 0), nullptr);
  EXPECT_NE(journal.find("b", 0), nullptr);
}

TEST_F(Journals, entries_of_wrong_types_are_left_out) {
  { Journal(output_, run_, false).append("a", 0, rows_); }
  std::ofstream(output_ + ".journal", std::ios::app) << "{\"rows\": []}\n{\"case\": 3, \"repetition\": 0, \"rows\": "
                                                        "[]}\n{\"case\": \"x\", \"repetition\": 0, \"rows\": 3}\n";
  const Journal journal(output_, run_, true);
  EXPECT_NE(journal.find("a", 0), nullptr);
  EXPECT_EQ(journal.find("x", 0), nullptr);
}

TEST_F(Journals, to_resume_where_there_is_none_begins_anew) {
  const Journal journal(output_, run_, true);
  EXPECT_EQ(journal.find("a", 0), nullptr);
  EXPECT_TRUE(fs::exists(journal.path()));
}

TEST_F(Journals, discard_leaves_no_file) {
  Journal journal(output_, run_, false);
  journal.append("a", 0, rows_);
  journal.discard();
  EXPECT_EQ(files(), 0u);
}

TEST_F(Journals, without_output_nothing_is_kept_and_nothing_can_be_resumed) {
  Journal journal("", run_, false);
  EXPECT_EQ(journal.path(), "");
  journal.append("a", 0, rows_);
  EXPECT_EQ(journal.find("a", 0), nullptr);
  journal.discard();
  EXPECT_THAT(refusal([&] { Journal("", run_, true); }), HasSubstr("--resume: expected --benchmark_out=FILE"));
}

TEST_F(Journals, output_that_is_a_folder_is_refused_and_a_device_needs_no_journal) {
  EXPECT_THAT(refusal([&] { Journal(folder_, run_, false); }), HasSubstr("expected a file to write, found a folder"));
  EXPECT_EQ(Journal("/dev/null", run_, false).path(), "");
}

TEST_F(Journals, a_missing_folder_is_refused) {
  const std::string output = folder_ / "missing" / "steps.json";
  EXPECT_THAT(refusal([&] { Journal(output, run_, false); }), HasSubstr("No such file or directory"));
  EXPECT_EQ(files(), 0u);
}

TEST_F(WriteAtomically, replaces_what_was_there_and_leaves_no_other_file) {
  write_atomically(output_, "first");
  EXPECT_EQ(content(output_), "first");
  write_atomically(output_, "");
  EXPECT_EQ(content(output_), "");
  const std::string large(3 << 20, 'x');
  write_atomically(output_, large);
  EXPECT_EQ(content(output_), large);
  EXPECT_EQ(files(), 1u);
}

TEST_F(WriteAtomically, a_missing_folder_throws_and_leaves_nothing) {
  const std::string path = folder_ / "missing" / "steps.json";
  const std::string found = refusal([&] { write_atomically(path, "text"); });
  EXPECT_THAT(found, HasSubstr(path + ": expected a file that can be written"));
  EXPECT_THAT(found, HasSubstr("No such file or directory"));
  EXPECT_EQ(files(), 0u);
}

TEST_F(WriteAtomically, a_folder_in_its_place_throws_and_stays) {
  fs::create_directory(output_);
  EXPECT_THAT(refusal([&] { write_atomically(output_, "text"); }), HasSubstr("expected a file that can be written"));
  EXPECT_TRUE(fs::is_directory(output_));
  EXPECT_EQ(files(), 1u);
}

TEST_F(WriteAtomically, a_full_device_throws_with_the_systems_reason) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THAT(refusal([] { write_atomically("/dev/full", "text"); }), HasSubstr("No space left on device"));
}

TEST_F(WriteAtomically, a_device_is_written_to_as_it_is) { EXPECT_NO_THROW(write_atomically("/dev/null", "text")); }

TEST_F(WriteAtomically, of_a_link_what_it_leads_to_is_replaced) {
  const fs::path target = folder_ / "target.json";
  write_atomically(target, "old");
  fs::create_symlink(target, output_);
  write_atomically(output_, "new");
  EXPECT_EQ(content(output_), "new");
  EXPECT_EQ(content(target), "new");
  EXPECT_TRUE(fs::is_symlink(output_));

  fs::remove(target);
  write_atomically(output_, "anew");
  EXPECT_EQ(content(target), "anew");
}

TEST_F(WriteAtomically, links_that_lead_to_each_other_are_refused) {
  const fs::path other = folder_ / "other.json";
  fs::create_symlink(other, output_);
  fs::create_symlink(output_, other);
  EXPECT_THAT(refusal([&] { write_atomically(output_, "text"); }), HasSubstr("found links that lead to each other"));
}

TEST_F(WriteAtomically, keeps_permissions) {
  write_atomically(output_, "old");
  fs::permissions(output_, fs::perms::owner_read | fs::perms::owner_write);
  write_atomically(output_, "new");
  EXPECT_EQ(fs::status(output_).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

}  // namespace
}  // namespace triphase
