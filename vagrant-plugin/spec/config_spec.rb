# frozen_string_literal: true

RSpec.describe VagrantPlugins::Hybrid::Config do
  def problems(text)
    validate(machine(text))
  end

  def one(text)
    list = problems(text)
    expect(list.size).to eq(1), "expected one line, got: #{list.inspect}"
    expect(list.first).not_to include("\n")
    list.first
  end

  describe 'a valid Vagrantfile' do
    it 'may leave out every option' do
      config = machine('config.hybrid.network "hybrid"').config.hybrid
      expect(config.wishes.map(&:name)).to eq(['hybrid'])
      expect(problems('config.hybrid.network "hybrid"')).to eq([])
    end

    it 'may leave out everything' do
      expect(machine('').config.hybrid.any?).to be(false)
      expect(problems('')).to eq([])
    end

    it 'takes all options' do
      expect(problems(<<~RUBY)).to eq([])
        config.hybrid.network "hybrid", ip: "10.0.1.200", hostname: "db", aliases: ["pg"], groups: ["backend"],
                              containers: "label=app=shop,label=tier name=web", mac: "52:54:00:AA:bb:cc"
      RUBY
    end

    it 'takes lists as one string, and hashes in braces' do
      wish = machine('config.hybrid.network "hybrid", { "aliases" => "pg, sql" }').config.hybrid.wishes.first
      expect(wish.problems).to eq([])
      expect(wish.attributes('m')['aliases']).to eq('pg sql')
    end
  end

  describe 'a MAC' do
    it 'is not that of two networks' do
      expect(one(<<~RUBY)).to include('network "other": mac 52:54:00:aa:bb:cc is also that of network "hybrid"')
        config.hybrid.network "hybrid", mac: "52:54:00:AA:BB:CC"
        config.hybrid.network "other", mac: "525400aabbcc"
      RUBY
    end

    it 'is not that of two machines' do
      machine = machine(<<~RUBY, name: :b)
        config.hybrid.network "hybrid", mac: "52:54:00:AA:BB:CC"
        config.vm.define("a")
        config.vm.define("b")
      RUBY
      expect(validate(machine)).to eq(['network "hybrid": mac 52:54:00:aa:bb:cc is also that of machine "a"'])
    end
  end

  describe 'merging' do
    it 'makes one NIC of a network named twice, the innermost option winning' do
      machine = machine(<<~RUBY, name: :db)
        config.hybrid.network "hybrid", groups: ["all"], hostname: "outer"
        config.vm.define "web"
        config.vm.define "db" do |db|
          db.hybrid.network "hybrid", hostname: "db", ip: "10.0.1.200"
        end
      RUBY
      expect(machine.config.hybrid.wishes.map { |wish| [wish.name, wish.options] })
        .to eq([['hybrid', { groups: ['all'], hostname: 'db', ip: '10.0.1.200' }]])
    end

    it 'keeps machines apart' do
      env = environment(<<~RUBY)
        config.hybrid.network "hybrid"
        config.vm.define("a") { |a| a.hybrid.network "other" }
        config.vm.define("b")
      RUBY
      names = %i[a b].map { |name| env.machine(name, :libvirt).config.hybrid.wishes.map(&:name) }
      expect(names).to eq([%w[hybrid other], %w[hybrid]])
    end

    it 'does not change what it merges' do
      outer = described_class.new.tap { |config| config.network('hybrid', ip: '10.0.1.2') }
      inner = described_class.new.tap { |config| config.network('hybrid', ip: '10.0.1.3') }
      merged = outer.merge(inner)
      [outer, inner, merged].each(&:finalize!)
      expect([outer, inner, merged].map { |config| config.wishes.map { |wish| wish.options[:ip] } })
        .to eq([['10.0.1.2'], ['10.0.1.3'], ['10.0.1.3']])
    end

    it 'carries on what is misspelt' do
      expect(one('config.hybrid.netwrok "hybrid"')).to include('netwrok')
    end
  end

  describe 'bad input' do
    {
      'ip: nil' => 'ip nil is nil',
      'ip: 10' => 'ip 10 must be a String, not Integer',
      'ip: :a' => 'ip :a must be a String, not Symbol',
      'ip: ""' => 'ip "" is empty',
      'ip: "10.0.1"' => 'is neither an IPv4 nor an IPv6 address',
      'ip: "010.0.1.5"' => 'is neither',
      'ip: "10.0.1.5\n"' => 'is neither',
      'ip: "10.0.1.5/24"' => 'is a subnet',
      'ip: "fe80::1%eth0"' => 'is neither',
      'ip: ["10.0.1.5"]' => 'must be a String, not Array',
      'hostname: nil' => 'hostname nil is nil',
      'hostname: 5' => 'must be a String, not Integer',
      'hostname: :db' => 'must be a String, not Symbol',
      'hostname: ""' => 'is empty',
      'hostname: "  "' => 'is empty',
      'hostname: "dätenbank"' => 'did you mean d-tenbank?',
      'hostname: "日本"' => 'may hold only',
      'hostname: "DB"' => 'did you mean db?',
      'hostname: "-a"' => 'must begin and end',
      'hostname: "a" * 64' => 'has more than 63 characters',
      'hostname: "a: {b}"' => 'may hold only',
      'hostname: "a\nb"' => 'may hold only',
      'hostname: "a\xff"' => 'is no valid text',
      'hostname: "db".encode("UTF-16LE")' => 'is no valid text',
      'containers: "name=ä".encode("ISO-8859-1")' => 'is no valid text',
      '"a\xff" => 1' => 'a?',
      'hostname: "\xd8".dup.force_encoding("UTF-16LE")' => 'is no valid text',
      'hostname: "db".dup.force_encoding("UTF-7")' => 'is no valid text',
      '"ä".encode("UTF-16LE") => 1' => 'unknown option "ä"',
      'aliases: "a\xff"' => 'aliases "a?" is no valid text',
      'aliases: ["a", "\xff b"]' => 'is no valid text',
      'groups: "db".encode("UTF-16LE")' => 'groups "db" is no valid text',
      'groups: ["db".encode("UTF-16LE")]' => 'is no valid text',
      'containers: "name=a\xff"' => 'is no valid text',
      'containers: ["name=a", "name=b".encode("UTF-16LE")]' => 'is no valid text',
      'ip: "10.0.1.5".encode("UTF-16LE")' => 'is no valid text',
      'mac: "52:54:00:00:00:\xff"' => 'is no valid text',
      'block: "8\xff"' => 'must be the number',
      'aliases: nil' => 'aliases nil',
      'aliases: []' => 'is an empty list',
      'aliases: ["a", 1]' => 'aliases 1 must be a String',
      'aliases: ["- &x *x"]' => 'may hold only',
      'aliases: { a: 1 }' => 'must be a String, not Hash',
      'groups: ""' => 'is empty',
      'groups: [nil]' => 'is nil',
      'groups: "a b!"' => 'groups "b!" may hold only',
      'containers: "app=shop"' => 'must be label=KEY',
      'containers: "label="' => 'must be label=KEY',
      'containers: "label==x"' => 'must be label=KEY',
      'containers: "name="' => 'must be label=KEY',
      'containers: "label=a,"' => 'must be label=KEY',
      'containers: "label=\u0000"' => 'control characters',
      'containers: "label=\uFFFE"' => 'control characters',
      'containers: "label=" + "x" * 2000' => 'longer than 1024',
      'containers: ["name=" + "x" * 60] * 20' => 'longer than 1024',
      'containers: "label=a\u007F"' => 'control characters',
      'containers: "label=\u00E9".b' => 'no valid text',
      'block: 8.0' => 'block 8.0 must be the number',
      'block: 3' => 'block 3 must be the number 2, 4, 8',
      'block: "8"' => 'block "8" must be the number',
      'block: nil' => 'block nil must be the number',
      'mac: "52:54:00"' => 'must be six bytes',
      'mac: "01:00:5e:00:00:01"' => 'is a group address',
      'mac: "00:00:00:00:00:00"' => 'is a group address or zero'
    }.each do |option, message|
      it "names #{option}" do
        expect(one("config.hybrid.network \"hybrid\", #{option}")).to include('network "hybrid": ').and include(message)
      end
    end

    {
      'ipp' => 'ip', 'hostnam' => 'hostname', 'host' => 'hostname', 'alias' => 'aliases', 'gruops' => 'groups',
      'container' => 'containers', 'zzz' => /\w+/
    }.each do |option, near|
      it "names the unknown option #{option} and the nearest known one" do
        expect(one("config.hybrid.network \"hybrid\", #{option}: \"1\""))
          .to match(/unknown option "#{option}"; did you mean #{near}\?/)
      end
    end

    [nil, 5, :hybrid, '', 'a' * 64, 'Hybrid', '../x', "a\nb", '- {a: b}', 'é', '-a'].each do |name|
      it "refuses #{name.inspect} as a network's name" do
        expect(one("config.hybrid.network #{name.inspect}")).to start_with('network name ')
      end
    end

    it 'says when the name is missing, and what else is one too many' do
      expect(one('config.hybrid.network')).to include('needs a name')
      expect(one('config.hybrid.network "hybrid", "10.0.1.5"')).to include('"10.0.1.5" is neither')
    end

    it 'says everything at once' do
      expect(problems('config.hybrid.network "hybrid", ip: 1, hostname: 2; config.hybrid.network "x y"').size).to eq(3)
    end
  end

  describe 'two machines with one address' do
    let(:text) do
      <<~RUBY
        config.vm.define("a") { |a| a.hybrid.network "hybrid", ip: "10.0.1.200" }
        config.vm.define("b") { |b| b.hybrid.network "hybrid", ip: "10.0.1.200" }
        config.vm.define("c") { |c| c.hybrid.network "other", ip: "10.0.1.200" }
      RUBY
    end

    it 'names the other machine' do
      env = environment(text)
      found = %i[a b c].map { |name| validate(env.machine(name, :libvirt)) }
      expect(found).to match([[include('that of machine "b"')], [include('that of machine "a"')], []])
    end

    it 'reads on where the other one has what is no text' do
      env = environment(text.sub('ip: "10.0.1.200"', 'aliases: "a\xff", groups: "db".encode("UTF-16LE")'))
      expect(%i[b c].map { |name| validate(env.machine(name, :libvirt)) }).to eq([[], []])
    end

    it 'compares addresses, not texts' do
      env = environment(text.sub('"10.0.1.200"', '"fd00::1"').sub('"10.0.1.200"', '"fd00:0::1"'))
      expect(validate(env.machine(:a, :libvirt)).first).to include('machine "b"')
    end
  end
end
