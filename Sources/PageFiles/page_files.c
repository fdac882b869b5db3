// The page's files inside the program. The compiler reads them itself, so that they stay plain files and a change of one
// is a change of this object.
#include "PageFiles.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

static const unsigned char answer_view_js[] = {
#embed "../Gateway/Page/Site/answer-view.js"
};
static const unsigned char answer_css[] = {
#embed "../Gateway/Page/Site/answer.css"
};
static const unsigned char answer_js[] = {
#embed "../Gateway/Page/Site/answer.js"
};
static const unsigned char api_js[] = {
#embed "../Gateway/Page/Site/api.js"
};
static const unsigned char base_css[] = {
#embed "../Gateway/Page/Site/base.css"
};
static const unsigned char blocks_js[] = {
#embed "../Gateway/Page/Site/blocks.js"
};
static const unsigned char card_js[] = {
#embed "../Gateway/Page/Site/card.js"
};
static const unsigned char chat_js[] = {
#embed "../Gateway/Page/Site/chat.js"
};
static const unsigned char cluster_js[] = {
#embed "../Gateway/Page/Site/cluster.js"
};
static const unsigned char compare_js[] = {
#embed "../Gateway/Page/Site/compare.js"
};
static const unsigned char dom_js[] = {
#embed "../Gateway/Page/Site/dom.js"
};
static const unsigned char exchange_js[] = {
#embed "../Gateway/Page/Site/exchange.js"
};
static const unsigned char experts_js[] = {
#embed "../Gateway/Page/Site/experts.js"
};
static const unsigned char icon_svg[] = {
#embed "../Gateway/Page/Site/icon.svg"
};
static const unsigned char index_html[] = {
#embed "../Gateway/Page/Site/index.html"
};
static const unsigned char load_js[] = {
#embed "../Gateway/Page/Site/load.js"
};
static const unsigned char main_js[] = {
#embed "../Gateway/Page/Site/main.js"
};
static const unsigned char numbers_js[] = {
#embed "../Gateway/Page/Site/numbers.js"
};
static const unsigned char panel_css[] = {
#embed "../Gateway/Page/Site/panel.css"
};
static const unsigned char request_js[] = {
#embed "../Gateway/Page/Site/request.js"
};
static const unsigned char settings_js[] = {
#embed "../Gateway/Page/Site/settings.js"
};
static const unsigned char split_js[] = {
#embed "../Gateway/Page/Site/split.js"
};
static const unsigned char sse_js[] = {
#embed "../Gateway/Page/Site/sse.js"
};
static const unsigned char storage_js[] = {
#embed "../Gateway/Page/Site/storage.js"
};
static const unsigned char strip_js[] = {
#embed "../Gateway/Page/Site/strip.js"
};
static const unsigned char theme_js[] = {
#embed "../Gateway/Page/Site/theme.js"
};
static const unsigned char token_text_js[] = {
#embed "../Gateway/Page/Site/token-text.js"
};

static const page_file files[] = {
  {"answer-view.js", answer_view_js, sizeof answer_view_js},
  {"answer.css", answer_css, sizeof answer_css},
  {"answer.js", answer_js, sizeof answer_js},
  {"api.js", api_js, sizeof api_js},
  {"base.css", base_css, sizeof base_css},
  {"blocks.js", blocks_js, sizeof blocks_js},
  {"card.js", card_js, sizeof card_js},
  {"chat.js", chat_js, sizeof chat_js},
  {"cluster.js", cluster_js, sizeof cluster_js},
  {"compare.js", compare_js, sizeof compare_js},
  {"dom.js", dom_js, sizeof dom_js},
  {"exchange.js", exchange_js, sizeof exchange_js},
  {"experts.js", experts_js, sizeof experts_js},
  {"icon.svg", icon_svg, sizeof icon_svg},
  {"index.html", index_html, sizeof index_html},
  {"load.js", load_js, sizeof load_js},
  {"main.js", main_js, sizeof main_js},
  {"numbers.js", numbers_js, sizeof numbers_js},
  {"panel.css", panel_css, sizeof panel_css},
  {"request.js", request_js, sizeof request_js},
  {"settings.js", settings_js, sizeof settings_js},
  {"split.js", split_js, sizeof split_js},
  {"sse.js", sse_js, sizeof sse_js},
  {"storage.js", storage_js, sizeof storage_js},
  {"strip.js", strip_js, sizeof strip_js},
  {"theme.js", theme_js, sizeof theme_js},
  {"token-text.js", token_text_js, sizeof token_text_js},
};

size_t page_file_count(void) { return sizeof files / sizeof files[0]; }

page_file page_file_at(size_t index) { return files[index]; }
